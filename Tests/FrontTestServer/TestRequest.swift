// SPDX-License-Identifier: Apache-2.0

internal import UAPI

/// The ioctl requests of the test device, which have VFIO's type.
/// Tests/Clients/fronts/lib/test_requests.h has the same numbers, and says what each request does.
enum TestRequest: UInt32 {
  case echo = 0x3bd0
  case openID = 0x3bd1
  case identify = 0x3bd2
  case makeQueue = 0x3bd3
  case push = 0x3bd4
  case sleep = 0x3bd5
  case sum = 0x3bd6
  case fill = 0x3bd7
  case keep = 0x3bd8
  case `return` = 0x3bd9
  case countOpenFiles = 0x3bda
  case count = 0x3bdb
  case poke = 0x3bdc
  case written = 0x3bdd
  case isMapped = 0x3bde
  case renewRegion = 0x3bdf
  case exchange = 0x3be0
  case null = 0x3be1
}

/// struct test_argument of Tests/Clients/fronts/lib/test_requests.h.
struct TestArgument: BitwiseCopyable {
  var size: UInt32 = 0
  var value: UInt32 = 0
  var pointer: UInt64 = 0
  var length: UInt64 = 0
}

/// The bytes of the offsets node. Each byte depends on its offset, so that a read shows, and a
/// write checks, that the offset of the client arrives.
enum OffsetBytes {
  /// Returns the `count` bytes from `offset` on.
  static func bytes(_ count: Int, at offset: UInt64) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      var index = 0
      while index < count {
        buffer[index] = UInt8(
          truncatingIfNeeded: ((offset &+ UInt64(index)) &* 0x9e37_79b9_7f4a_7c15) >> 56)
        index += 1
      }
      initialized = count
    }
  }

  /// Returns whether reads and writes at `offset` fail with EINVAL: TEST_IS_REFUSED.
  static func isRefused(_ offset: UInt64) -> Bool { offset >> 40 == 200 }
}
