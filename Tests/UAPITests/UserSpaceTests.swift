// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import Testing

@testable import UAPI

@Suite("The end of user space") struct UserSpaceTests {
  #if arch(x86_64)
    @Test("The limit is TASK_SIZE_MAX of an x86-64 processor with five-level page tables")
    func limitIsTaskSizeMax() {
      #expect(UserSpace.end == (1 << 56) - 4096)
    }
  #endif

  @Test("A range is in user space when its end does not exceed the limit, also when it is empty")
  func rangesEndAtTheLimit() {
    let end = UserSpace.end
    #expect(UserSpace.contains(0, count: end))
    #expect(UserSpace.contains(end - 1, count: 1))
    #expect(UserSpace.contains(end, count: 0))
    #expect(!UserSpace.contains(end, count: 1))
    #expect(!UserSpace.contains(end + 1, count: 0))
    #expect(!UserSpace.contains(0xffff_8880_0000_1000, count: 0))
    #expect(!UserSpace.contains(.max, count: 1), "the sum wraps around")
  }

  /// Ones at every address below ``end``, as if all of user space were mapped.
  private struct Ones: UserMemory {
    func copyIn(
      from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
      guard UserSpace.contains(address, count: UInt64(buffer.count)) else { throw .badAddress }
      buffer.initializeMemory(as: UInt8.self, repeating: 1)
    }

    func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
      throw .badAddress
    }
  }

  private func copyStruct(userSize: Int, at address: UInt64) throws(Errno) {
    var ours: UInt64 = 0
    try withUnsafeMutableBytes(of: &ours) { buffer throws(Errno) in
      try Ones().copyStruct(from: address, userSize: userSize, into: buffer)
    }
  }

  @Test(
    "The surplus of a struct is read when it ends in user space, and is EFAULT when it does not")
  func surplusOfAStruct() {
    // With four-level page tables the limit is below this struct's end.
    #expect(throws: Errno.argListTooLong) {
      try copyStruct(userSize: 1 << 20, at: 0x7fff_ffff_e000)
    }
    #expect(throws: Errno.argListTooLong) {
      try copyStruct(userSize: 4096, at: UserSpace.end - 4096)
    }
    #expect(throws: Errno.badAddress) {
      try copyStruct(userSize: 4097, at: UserSpace.end - 4096)
    }
  }
}
