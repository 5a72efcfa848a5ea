// SPDX-License-Identifier: Apache-2.0

// What a function with ATS keeps itself (PCIe 6 §10): its device TLB (ATC), a cache of
// translations, and the groups of page requests that have no response yet. The function's port owns
// it.
//
// A translation stays in the device TLB until the unit's driver invalidates it or the function is
// reset, exactly as in the unit's IOTLB. An invalidation then waits for the port's request in
// flight (`InFlightRequest`), so that no request still uses what was removed.

internal import Synchronization

/// The translations of one function that an invalidation removes.
package enum DeviceTLBScope: Hashable, Sendable {
  case all
  /// Translations that intersect the 2^`shift` bytes at the address, which is a multiple of that
  /// size.
  case pages(IOVA, shift: Int)

  /// Returns the scope of the naturally aligned 2^`shift` bytes that contain `address`.
  static func aligned(_ address: UInt64, shift: Int) -> DeviceTLBScope {
    shift >= 64 ? .all : .pages(IOVA((address >> UInt64(shift)) << UInt64(shift)), shift: shift)
  }
}

/// The size of a device TLB.
package struct DeviceTLBGeometry: Hashable, Sendable {
  /// The number of sets, each of 8 translations of 4 KiB. With 0 the function caches nothing.
  package var sets = 8
  /// The number of page request groups that can be outstanding, at most 512.
  package var pageRequestGroups = 32

  package init() {}
}

final class DeviceTLB: Sendable {
  let requester: RequesterID
  private let isDisabled: Bool
  private let groupLimit: Int
  private let state: Mutex<State>

  /// SAFETY: the state owns the memory that its cache points to, and is only reached with the lock
  /// held.
  private struct State: ~Copyable, @unchecked Sendable {
    var translations: IOTLB
    /// The number of invalidations so far.
    var generation: UInt64 = 0
    var groups: [UInt32: Group] = [:]
    var nextGroup: UInt32 = 0
    var receiver: PageResponseReceiver?
  }

  private struct Group {
    let pasid: PASID?
    var phase = Phase.sending

    enum Phase {
      /// The function is still sending the group's requests.
      case sending
      /// The response arrived while the function was still sending.
      case answered(PageResponse)
      /// All requests are sent, and the receiver will be called with the response.
      case awaited
    }
  }

  init(requester: RequesterID, _ geometry: DeviceTLBGeometry = .init()) {
    self.requester = requester
    isDisabled = geometry.sets <= 0
    groupLimit = min(geometry.pageRequestGroups, 512)
    var iotlb = IOTLBGeometry()
    (iotlb.sets4K, iotlb.sets2M, iotlb.sets1G) = (geometry.sets, 1, 1)
    state = Mutex(State(translations: IOTLB(iotlb)))
  }

  // MARK: Translations

  /// Translations without PASID are tagged with a PASID that does not exist.
  private static func tag(_ pasid: PASID?) -> IOTLBTag {
    IOTLBTag(domain: DomainID(rawValue: 0), pasid: pasid ?? PASID(rawValue: 1 << 20))
  }

  /// Returns the translation of the page that contains `iova` if one is cached that allows
  /// `access`, and the generation that ``insert(_:for:pasid:generation:)`` needs if not.
  func lookup(
    _ iova: IOVA, pasid: PASID?, access: Permissions
  ) -> (page: Translation?, generation: UInt64) {
    state.withLock { state in
      (state.translations.lookup(Self.tag(pasid), iova, for: access), state.generation)
    }
  }

  /// Caches the 4 KiB piece of `page` that contains `iova`, unless an invalidation has happened
  /// since `generation`.
  func insert(_ page: Translation, for iova: IOVA, pasid: PASID?, generation: UInt64) {
    guard !isDisabled else { return }
    let piece = Translation(
      physical: PhysicalAddress(page.address(of: iova).rawValue & ~0xfff),
      shift: Frame.shift, permissions: page.permissions)
    state.withLock { state in
      guard state.generation == generation else { return }
      state.translations.insert(Self.tag(pasid), iova, piece)
    }
  }

  /// Performs an invalidation message. Without a PASID it removes the translations in the range
  /// that were requested without PASID, and all translations that were requested with one (PCIe 6
  /// §10.3.8).
  func invalidate(_ scope: DeviceTLBScope, pasid: PASID?) {
    let tag = Self.tag(pasid)
    state.withLock { state in
      state.generation &+= 1
      state.translations.removeAll { entry in
        guard entry.tag == tag else { return pasid == nil }
        guard case .pages(let iova, let shift) = scope else { return true }
        return entry.iova.rawValue >> UInt64(shift) == iova.rawValue >> UInt64(shift)
      }
    }
  }

  /// Removes all translations and page request groups, as a reset of the function or disabling ATS
  /// does.
  func reset() {
    state.withLock { state in
      state.generation &+= 1
      state.translations.invalidate(.global)
      state.groups = [:]
    }
  }

  /// The number of cached translations.
  var count: Int { state.withLock { $0.translations.count } }

  // MARK: Page requests

  func setReceiver(_ receiver: PageResponseReceiver?) {
    state.withLock { $0.receiver = receiver }
  }

  /// Allocates a page request group index; returns `nil` when all are in use.
  func beginGroup(pasid: PASID?) -> UInt32? {
    state.withLock { state in
      guard state.groups.count < groupLimit else { return nil }
      while state.groups[state.nextGroup] != nil { state.nextGroup = (state.nextGroup + 1) & 511 }
      let group = state.nextGroup
      state.nextGroup = (group + 1) & 511
      state.groups[group] = Group(pasid: pasid)
      return group
    }
  }

  /// Records that all requests of the group are sent.
  /// - Returns: the response if it has already arrived. The group is then free.
  func endSending(_ group: UInt32) -> PageResponse? {
    state.withLock { state in
      if case .answered(let response)? = state.groups[group]?.phase {
        state.groups[group] = nil
        return response
      }
      state.groups[group]?.phase = .awaited
      return nil
    }
  }

  /// Delivers a response that identifies its group by the index alone.
  func answer(group: UInt32, _ response: PageResponse) {
    guard let pasid = state.withLock({ $0.groups[group].map { $0.pasid } }) else { return }
    answer(PageRequestGroupID(requester: requester, pasid: pasid, group: group), response)
  }

  /// Delivers the same response to all outstanding groups.
  func answerAll(_ response: PageResponse) {
    for group in state.withLock({ $0.groups.keys.sorted() }) { answer(group: group, response) }
  }

  /// Delivers a response message. A response without an outstanding group is dropped (PCIe 6
  /// §10.4.2).
  func answer(_ id: PageRequestGroupID, _ response: PageResponse) {
    let receiver = state.withLock { state -> PageResponseReceiver? in
      guard let group = state.groups[id.group], group.pasid == id.pasid else { return nil }
      switch group.phase {
      case .sending:
        state.groups[id.group]?.phase = .answered(response)
        return nil
      case .answered:
        return nil
      case .awaited:
        state.groups[id.group] = nil
        return state.receiver
      }
    }
    receiver?(id.group, response)
  }
}
