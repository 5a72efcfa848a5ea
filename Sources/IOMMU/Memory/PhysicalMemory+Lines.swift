// Entries longer than a word.
//
// Hardware fetches a configuration entry of up to 64 bytes as one cache line, and software can
// store one at once (MOVDIR64B). Entries that are loaded and stored here are never seen half-changed
// either. They are fetched only on a miss of a configuration cache, so one lock serves them all.

internal import Synchronization

extension PhysicalMemory {
  /// The `Count` words at `physical`, a multiple of their size. Nil: not in RAM.
  package func loadEntry<let Count: Int>(
    _ physical: PhysicalAddress, as type: InlineArray<Count, UInt64>.Type = InlineArray.self
  ) -> InlineArray<Count, UInt64>? {
    lines.withLock { _ in
      var words = InlineArray<Count, UInt64>(repeating: 0)
      for index in words.indices {
        guard let word = window.load(PhysicalAddress(physical.rawValue + UInt64(index) * 8)) else {
          return nil
        }
        words[index] = word
      }
      return words
    }
  }

  /// Stores `words` in a table that ``allocateTable(sizeShift:)`` gave.
  package func storeEntry<let Count: Int>(
    _ words: InlineArray<Count, UInt64>, at physical: PhysicalAddress
  ) {
    lines.withLock { _ in
      for index in words.indices {
        window.store(words[index], at: PhysicalAddress(physical.rawValue + UInt64(index) * 8))
      }
    }
  }

  /// Stores one word in a table.
  package func storeEntry(_ entry: UInt64, at physical: PhysicalAddress) {
    window.store(entry, at: physical)
  }
}
