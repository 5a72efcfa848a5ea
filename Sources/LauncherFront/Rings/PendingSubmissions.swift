// SPDX-License-Identifier: Apache-2.0

/// What the fdinfo file of a ring says.
struct PendingSubmissions {
  /// An entry of the submission queue that waits.
  struct Entry {
    let index: UInt32
    /// Whether the entries have 128 bytes (IORING_SETUP_SQE128).
    let isWide: Bool
    let descriptor: Int32
    let flags: UInt8
    let userData: UInt64
  }

  /// The number of entries of the submission queue.
  let count: UInt32
  /// The entries that wait, in their order.
  private(set) var entries: [Entry] = []
  /// The paths of registered files.
  private(set) var files: [UInt32: Substring] = [:]
  /// Whether a thread of the kernel takes the entries (IORING_SETUP_SQPOLL).
  private(set) var hasThread = false

  private static let mostEntries: UInt32 = 32768

  /// - Returns: `nil` for another text.
  init?(_ text: String) {
    var count: UInt32?
    var isInFiles = false
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { continue }
      let value = parts[1].drop(while: \.isWhitespace)
      if parts[0] == "SqMask" {
        count = UInt32(value.dropFirst(value.hasPrefix("0x") ? 2 : 0), radix: 16).map { $0 &+ 1 }
      } else if parts[0] == "SqThread" {
        hasThread = (Int32(value) ?? -1) > 0
      } else if parts[0] == "UserFiles" {
        isInFiles = true
      } else if let number = UInt32(parts[0].drop(while: \.isWhitespace)) {
        if value.hasPrefix("opcode:") {
          if let entry = Entry(at: number, value) { entries.append(entry) }
        } else if isInFiles {
          files[number] = value
        }
      } else {
        isInFiles = false
      }
    }
    guard let count, 1...Self.mostEntries ~= count else { return nil }
    self.count = count
    entries.removeAll { $0.index >= count }
  }
}

extension PendingSubmissions.Entry {
  /// - Parameter line: "opcode:READ, fd:3, flags:0, … user_data:7", then the second half of a wide
  ///   entry: ", e0:0x0, …".
  init?(at index: UInt32, _ line: Substring) {
    var fields: [Substring: Substring] = [:]
    for part in line.split(separator: " ") {
      let parts = part.split(separator: ":", maxSplits: 1)
      if parts.count == 2 {
        fields[parts[0]] = parts[1].hasSuffix(",") ? parts[1].dropLast() : parts[1]
      }
    }
    guard let userData = fields["user_data"].flatMap({ UInt64($0) }),
      let descriptor = fields["fd"].flatMap({ Int32($0) }),
      let flags = fields["flags"].flatMap({ UInt8($0, radix: 16) })
    else { return nil }
    // The operations with 128 bytes have two entries in a ring of entries with 64.
    let isWide = fields["e0"] != nil && fields["opcode"]?.hasSuffix("128") == false
    self.init(
      index: index, isWide: isWide, descriptor: descriptor, flags: flags, userData: userData)
  }
}
