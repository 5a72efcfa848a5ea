// SPDX-License-Identifier: Apache-2.0

/// Where a member of a C struct lies. `member` must be a stored member of `T` itself: a key path
/// without an offset is a mistake in this program.
extension MemoryLayout {
  /// Returns the byte offset of the first byte of `member`, as offsetof() does in C.
  package static func start<Member>(of member: KeyPath<T, Member>) -> Int {
    guard let offset = offset(of: member) else {
      preconditionFailure("\(member) is not a stored member of \(T.self)")
    }
    return offset
  }

  /// Returns the byte offset behind the last byte of `member`, as the kernel's offsetofend() does.
  package static func end<Member>(of member: KeyPath<T, Member>) -> Int {
    start(of: member) + MemoryLayout<Member>.size
  }
}
