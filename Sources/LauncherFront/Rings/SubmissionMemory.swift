// SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Host

/// The entries of a ring, in the memory that the program and the kernel share.
struct SubmissionMemory: ~Copyable {
  private let first: UnsafeMutablePointer<CLinux_submission>
  /// The number of entries of 64 bytes that are mapped.
  private let count: UInt32

  /// - Returns: `nil` when the ring has no memory that can be mapped (IORING_SETUP_NO_MMAP).
  init?(of ring: OwnedDescriptor, entries: UInt32) {
    // With IORING_SETUP_SQE128 the entries need twice the memory. A ring without it refuses that
    // (io_uring_validate_mmap_request()), unless it is smaller than a page.
    for count in [2 * entries, entries] {
      if let first = CLinux_map_submissions(ring.rawValue, count) {
        (self.first, self.count) = (first, count)
        return
      }
    }
    return nil
  }

  deinit { CLinux_unmap_submissions(first, count) }

  /// - Returns: `nil` when the memory has another entry there.
  func load(_ entry: PendingSubmissions.Entry) -> CLinux_submission? {
    guard let place = place(of: entry) else { return nil }
    let submission = place.pointee
    return submission.user_data == entry.userData ? submission : nil
  }

  func answer(_ entry: PendingSubmissions.Entry, with result: Int32) {
    if let place = place(of: entry) { CLinux_answer_submission(place, result) }
  }

  // SAFETY: the result is within the entries that are mapped.
  private func place(
    of entry: PendingSubmissions.Entry
  ) -> UnsafeMutablePointer<CLinux_submission>? {
    let index = entry.isWide ? 2 * entry.index : entry.index
    return index < count ? first.advanced(by: Int(index)) : nil
  }
}
