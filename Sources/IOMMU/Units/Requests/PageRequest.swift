// Page requests: a device asks for a page to be made present instead of failing (PCIe 6 §10.4, PRI;
// SMMUv3's stalls look the same from above).

/// One page request.
package struct PageRequest: Hashable, Sendable {
  package let requester: RequesterID
  package let pasid: PASID?
  /// Requests with the same number are answered together.
  package let group: UInt32
  package let address: UInt64
  package let access: PageRequestAccess
  /// The group is complete.
  package let isLast: Bool

  package init(
    requester: RequesterID, pasid: PASID?, group: UInt32, address: UInt64,
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

/// What the page is wanted for; the bits of IOMMU_FAULT_PERM.
package struct PageRequestAccess: OptionSet, Hashable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let read = PageRequestAccess(rawValue: 1 << 0)
  package static let write = PageRequestAccess(rawValue: 1 << 1)
  package static let execute = PageRequestAccess(rawValue: 1 << 2)
  package static let privileged = PageRequestAccess(rawValue: 1 << 3)
}

/// What a page response names.
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

/// How a group is answered (PCIe 6 §10.4.2.1).
package enum PageResponse: Sendable {
  /// The pages are there: the device tries again.
  case success
  /// At least one page cannot be had.
  case invalid
  /// The requests could not be looked at.
  case failure

  /// The response code of the message.
  var code: UInt64 {
    switch self {
    case .success: 0
    case .invalid: 1
    case .failure: 15
    }
  }

  /// Codes without a meaning are those of a failure.
  init(code: UInt64) {
    self =
      switch code {
      case 0: .success
      case 1: .invalid
      default: .failure
      }
  }
}

/// Is told of every page request. Called by the thread of the DMA, without any lock of the unit.
package typealias PageRequestSink = @Sendable (PageRequest) -> Void

/// What a device learns when it has sent a group of page requests.
package enum PageRequestAnswer: Hashable, Sendable {
  /// It was answered at once.
  case answered(PageResponse)
  /// The receiver of ``DMAPort/setPageResponseReceiver(_:)`` will be told.
  case awaited(group: UInt32)
  /// None was sent: the function has no group number free, or no such service.
  case unavailable
}

/// Is told of answers to page requests. Called by whoever answers, without any lock of the unit.
package typealias PageResponseReceiver =
  @Sendable (_ group: UInt32, _ response: PageResponse) -> Void
