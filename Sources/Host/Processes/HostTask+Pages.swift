// Making pages of another task present, as pin_user_pages() does for the caller of an ioctl.

internal import CLinux

extension HostTask {
  /// Makes `count` pages from `address` on present. Where `forWriting`, private copies of file and
  /// zero pages are made now and not by the first store. No byte changes.
  /// - Parameter each: whether some pages may be there and others not, as behind the end of a file.
  ///   Without it one page in 1024 is looked at.
  /// - Returns: false when a page cannot be read: unmapped, beyond the end of its file, or memory
  ///   that is not made of pages (VM_IO, VM_PFNMAP).
  package func faultIn(
    at address: UInt64, pages count: UInt64, forWriting: Bool, each: Bool
  ) -> Bool {
    var address = address
    var left = count
    while left > 0 {
      let step = min(left, UInt64(CLinux_touch_pages))
      if forWriting { CLinux_process_vm_fault_for_write(id, address, Int(step)) }
      let isThere =
        each
        ? CLinux_process_vm_touch(id, address, Int(step)) == Int(step)
        : CLinux_process_vm_fault_for_read(id, address, Int(step)) == 1
      guard isThere else { return false }
      address &+= step &* 4096
      left -= step
    }
    return true
  }
}
