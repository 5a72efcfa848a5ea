// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The file that each descriptor number of a client referred to at its last lookup.
///
/// An entry is a guess, because the client may have opened another file with the number since. An
/// ``EpollMark`` confirms it.
final class DescriptorCache: Sendable {
  private struct Entry {
    weak var file: ServedFile?
  }

  private let entries = Mutex<[Int32: Entry]>([:])
  private static let limit = 64

  func file(_ number: Int32) -> ServedFile? {
    entries.withLock { $0[number]?.file }
  }

  func store(_ file: ServedFile, for number: Int32) {
    entries.withLock { entries in
      if entries.count >= Self.limit { entries.removeAll() }
      entries[number] = Entry(file: file)
    }
  }
}
