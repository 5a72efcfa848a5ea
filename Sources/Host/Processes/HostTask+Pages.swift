// SPDX-License-Identifier: Apache-2.0

// Faults in pages of another process, as pin_user_pages() does for the caller of an ioctl.

internal import CLinux

extension HostTask {
  /// Faults in `count` pages from `address` on. No byte changes.
  /// - Parameters:
  ///   - forWriting: whether to break copy-on-write now: private copies of file pages and of zero
  ///     pages are made here, not by the first store.
  ///   - each: whether every page is checked, because some pages of the range may be accessible and
  ///     others not, as at the end of a file. Otherwise one page in 1024 is checked.
  /// - Returns: false when a checked page cannot be read: it is unmapped, beyond the end of its
  ///   file, or memory without page structures (VM_IO, VM_PFNMAP).
  package func faultIn(
    at address: UInt64, pages count: UInt64, forWriting: Bool, each: Bool
  ) -> Bool {
    var address = address
    var left = count
    while left > 0 {
      let step = min(left, UInt64(CLinux_max_touched_pages))
      if forWriting { CLinux_process_vm_fault_for_write(id, address, Int(step)) }
      let isPresent =
        each
        ? CLinux_process_vm_touch(id, address, Int(step)) == Int(step)
        : CLinux_process_vm_fault_for_read(id, address, Int(step)) == 1
      guard isPresent else { return false }
      address &+= step &* 4096
      left -= step
    }
    return true
  }

  /// Faults in `count` pages from `address` on for writing. No byte changes, and no error is
  /// reported.
  package func faultInForWriting(at address: UInt64, pages count: UInt64) {
    var (address, left) = (address, count)
    while left > 0 {
      let step = min(left, UInt64(CLinux_max_touched_pages))
      CLinux_process_vm_fault_for_write(id, address, Int(step))
      (address, left) = (address &+ step &* 4096, left - step)
    }
  }
}
