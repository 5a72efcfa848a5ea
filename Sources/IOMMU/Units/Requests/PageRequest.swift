// SPDX-License-Identifier: Apache-2.0

// Page requests (PCIe 6 §10.4, PRI): instead of failing, a device requests that a page be made
// present. The stalled transactions of an SMMUv3 reach software in the same form.

internal import Synchronization

/// One page request message.
package struct PageRequest: Hashable, Sendable {
  package let requester: RequesterID
  package let pasid: PASID?
  /// The page request group index: requests with the same index are answered together.
  package let group: UInt32
  package let address: IOVA
  package let access: PageRequestAccess
  /// Whether this is the last request of the group.
  package let isLast: Bool

  package init(
    requester: RequesterID, pasid: PASID?, group: UInt32, address: IOVA,
    access: PageRequestAccess, isLast: Bool
  ) {
    self.requester = requester
    self.pasid = pasid
    self.group = group
    self.address = address
    self.access = access
    self.isLast = isLast
  }

  package var groupID: PageRequestGroupID {
    PageRequestGroupID(requester: requester, pasid: pasid, group: group)
  }
}

/// The requested access to the page, in the bits of IOMMU_FAULT_PERM.
package struct PageRequestAccess: OptionSet, Hashable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let read = PageRequestAccess(rawValue: 1 << 0)
  package static let write = PageRequestAccess(rawValue: 1 << 1)
  package static let execute = PageRequestAccess(rawValue: 1 << 2)
  package static let privileged = PageRequestAccess(rawValue: 1 << 3)
}

/// The page request group that a page response answers.
package struct PageRequestGroupID: Hashable, Sendable {
  package let requester: RequesterID
  package let pasid: PASID?
  package let group: UInt32

  package init(requester: RequesterID, pasid: PASID?, group: UInt32) {
    self.requester = requester
    self.pasid = pasid
    self.group = group
  }
}

/// The response to a page request group (PCIe 6 §10.4.2.1).
package enum PageResponse: Sendable {
  /// The pages are present, and the device can repeat its access.
  case success
  /// At least one page cannot be made present.
  case invalid
  /// The requests could not be handled.
  case failure

  /// The response code of the message.
  var code: UInt64 {
    switch self {
    case .success: 0
    case .invalid: 1
    case .failure: 15
    }
  }

  /// Decodes a response code. An undefined code is a failure.
  init(code: UInt64) {
    self =
      switch code {
      case 0: .success
      case 1: .invalid
      default: .failure
      }
  }
}

/// The function that a unit calls for every page request. The thread that performs the DMA calls it
/// without any lock of the unit.
package typealias PageRequestSink = @Sendable (PageRequest) -> Void

/// The sink that a unit's driver has set. The closure is a member of a struct, because a closure
/// that is the whole value of a generic container is wrapped once more at every `inout` access: a
/// call of it then needs more time and more stack than the call before.
final class PageRequestReceiver: Sendable {
  private struct State {
    var sink: PageRequestSink?
  }

  private let state = Mutex(State())

  /// The sink; `nil` before the driver has set one.
  var sink: PageRequestSink? { state.withLock { $0.sink } }

  func setSink(_ sink: PageRequestSink?) { state.withLock { $0.sink = sink } }
}

/// The state of a page request group right after a device has sent it.
package enum PageRequestAnswer: Hashable, Sendable {
  /// The response has already arrived.
  case answered(PageResponse)
  /// The receiver that ``DMAPort/setPageResponseReceiver(_:)`` sets will get the response.
  case awaited(group: UInt32)
  /// No request was sent: all group indexes are in use, or the function cannot send page requests.
  case unavailable
}

/// The function that a port calls for every page response. The thread that responds calls it
/// without any lock of the unit.
package typealias PageResponseReceiver =
  @Sendable (_ group: UInt32, _ response: PageResponse) -> Void
