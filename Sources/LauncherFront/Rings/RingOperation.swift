// SPDX-License-Identifier: Apache-2.0

/// IORING_OP_… of the requests that the kernel would make on a stand-in file with another answer.
enum RingOperation: UInt8 {
  case readVector = 1
  case writeVector = 2
  case fsync = 3
  case readFixed = 4
  case writeFixed = 5
  case syncFileRange = 8
  case sendMessage = 9
  case receiveMessage = 10
  case accept = 13
  case connect = 16
  case fallocate = 17
  case open = 18
  case status = 21
  case read = 22
  case write = 23
  case send = 26
  case receive = 27
  case openHow = 28
  case splice = 30
  case tee = 33
  case shutdown = 34
  case command = 46
  case sendZeroCopy = 47
  case sendMessageZeroCopy = 48
  case readMultishot = 49
  case truncate = 55
  case bind = 56
  case listen = 57
  case receiveZeroCopy = 58
  case readFixedVector = 60
  case writeFixedVector = 61
  case wideCommand = 64

  var isWrite: Bool {
    switch self {
    case .write, .writeFixed, .writeVector, .writeFixedVector: true
    default: false
    }
  }

  var isVector: Bool {
    switch self {
    case .readVector, .writeVector, .readFixedVector, .writeFixedVector: true
    default: false
    }
  }

  /// Whether the request has a path, from a directory's descriptor on.
  var namesPath: Bool { self == .open || self == .openHow || self == .status }
}
