// SPDX-License-Identifier: Apache-2.0

package import IOMMU

/// The path of a function's requests to memory: the port of an IOMMU unit, or a test's replacement.
package protocol DMAPath: Sendable {
  func read(
    _ iova: IOVA, _ attributes: DMAAttributes, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome
  func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes
  ) -> DMAOutcome

  /// Sends one page request group for the pages of `count` bytes at `iova` whose translation was
  /// denied.
  func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes
  ) -> PageRequestAnswer
  /// Sets the receiver of responses that arrive later: to page requests for which
  /// ``requestPages(_:count:writes:_:)`` returned `.awaited`, and to requests that ended as
  /// `.stalled`.
  func setPageResponseReceiver(_ receiver: PageResponseReceiver?)
  /// Empties the function's device TLB and forgets the function's outstanding page requests.
  func resetDeviceTLB()
}

/// Defaults for a path without page requests and without a device TLB.
extension DMAPath {
  package func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes
  ) -> PageRequestAnswer { .unavailable }
  package func setPageResponseReceiver(_ receiver: PageResponseReceiver?) {}
  package func resetDeviceTLB() {}
}

extension DMAPort: DMAPath {}
