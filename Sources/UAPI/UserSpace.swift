// SPDX-License-Identifier: Apache-2.0

/// The addresses that a process can use. The kernel refuses everything else before it accesses any
/// memory.
package enum UserSpace {
  /// The first address behind user space, TASK_SIZE_MAX.
  ///
  /// On x86-64 the kernel uses `(1 << 47) - PAGE_SIZE` when the processor's page tables have four
  /// levels, and `(1 << 56) - PAGE_SIZE` when they have five (X86_FEATURE_LA57; arch/x86:
  /// task_size_max(), USER_PTR_MAX). The reference kernel ran with five levels. The larger value
  /// also refuses no memory that a client can have: on a host with four levels nothing is mapped
  /// between the two values, and an access there is EFAULT as well.
  ///
  /// On arm64 the value is `1 << VA_BITS`.
  #if arch(arm64)
    package static let end: UInt64 = 1 << 48
  #else
    package static let end: UInt64 = (1 << 56) - 4096
  #endif

  /// Returns whether `count` bytes at `address` lie in user space, as access_ok() does. The kernel
  /// checks this before it copies, so a range of 0 bytes is checked as well.
  package static func contains(_ address: UInt64, count: UInt64) -> Bool {
    let (end, overflow) = address.addingReportingOverflow(count)
    return !overflow && end <= Self.end
  }
}
