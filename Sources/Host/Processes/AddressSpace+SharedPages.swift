// SPDX-License-Identifier: Apache-2.0

// Faults in pages of a process as pin_user_pages() does for it: through the page table of the
// process. So a page that is missing is charged to the memory cgroup of the process, and the
// process's userfaultfd is asked for it.

internal import CLinux

extension AddressSpace {
  /// The number of times that pages are faulted in which the host has evicted again.
  private static let attempts = 4

  /// Faults in the pages of `range`, which is in one shared mapping, where the page table does not
  /// have them. Waits for the process when its userfaultfd is asked.
  /// - Parameter forWriting: whether pages that a userfaultfd protects from writes are faulted in
  ///   for writing.
  /// - Returns: false when a page cannot be faulted in.
  package func faultInShared(_ range: Range<UInt64>, forWriting: Bool) -> Bool {
    for _ in 0..<Self.attempts {
      var address = range.lowerBound
      var isComplete = true
      while address < range.upperBound {
        var (start, end) = (UInt64(0), UInt64(0))
        switch CLinux_pagemap_absent(
          pagemap.rawValue, address, range.upperBound, forWriting, &start, &end)
        {
        case 0: address = range.upperBound
        case 1:
          isComplete = false
          guard faultIn(start..<end, forWriting: forWriting) else { return false }
          address = end
        default: return false
        }
      }
      if isComplete { return true }
    }
    return false
  }

  /// Faults in the pages of `range`, which is in one mapping that the process can write,
  /// where the page table does not have them or userfaultfd protects them. A page that cannot be
  /// faulted in is left out.
  ///
  /// An agent that registers a page which is missing waits for it with locks held that other pins
  /// and accesses to pinned pages need (io_uring: io_ring_ctx.uring_lock). So the page is waited
  /// for here, without a lock.
  package func faultInForPin(_ range: Range<UInt64>) {
    var (start, end) = (UInt64(0), range.lowerBound)
    while end < range.upperBound,
      CLinux_pagemap_absent(pagemap.rawValue, end, range.upperBound, true, &start, &end) == 1
    {
      HostTask(id: processID).faultInForWriting(at: start, pages: (end - start) >> 12)
    }
  }

  /// The process may have left the address space. Then its ID is of no use, and the pages are read
  /// through the mm itself.
  private func faultIn(_ range: Range<UInt64>, forWriting: Bool) -> Bool {
    let count = (range.upperBound - range.lowerBound) >> 12
    return HostTask(id: processID).faultIn(
      at: range.lowerBound, pages: count, forWriting: forWriting, each: true)
      || touch(at: range.lowerBound, pages: count)
  }
}
