// SPDX-License-Identifier: Apache-2.0

/// The names in a path.
enum PathName {
  /// FNV-1a.
  static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
    var hash = emptyHash
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* prime }
    return hash
  }

  static let slash = UInt8(ascii: "/")
  static let dot = UInt8(ascii: ".")

  /// Calls `body` with the hash values of the names of `path`, the last name included, and whether
  /// a name is the last. Stops when `body` returns true.
  /// - Returns: whether `body` has.
  static func contains(
    in path: UnsafeRawBufferPointer, where body: (_ hash: UInt64, _ isLast: Bool) -> Bool
  ) -> Bool {
    var end = path.count
    while end > 0, path[end - 1] == slash { end -= 1 }
    var hash = emptyHash
    for index in 0..<end {
      let byte = path[index]
      if byte != slash {
        hash = (hash ^ UInt64(byte)) &* prime
      } else {
        if hash != emptyHash, body(hash, false) { return true }
        hash = emptyHash
      }
    }
    return body(hash, true)
  }

  private static let emptyHash: UInt64 = 0xcbf2_9ce4_8422_2325
  private static let prime: UInt64 = 0x100_0000_01b3

  /// The range of the last name: the bytes behind the last slash that a name follows. Empty for a
  /// path of slashes.
  static func last(of path: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer.SubSequence {
    var end = path.count
    while end > 0, path[end - 1] == slash { end -= 1 }
    var begin = end
    while begin > 0, path[begin - 1] != slash { begin -= 1 }
    return path[begin..<end]
  }
}
