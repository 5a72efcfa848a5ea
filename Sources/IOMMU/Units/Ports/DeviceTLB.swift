// What a function that translates for itself has of its own (PCIe 6 §10): a cache of translations, the
// device TLB or ATC, and page requests that are not answered yet.
//
// The cache is as lazy as the unit's: a translation stays until the unit's driver invalidates it, or a
// reset. Whoever invalidates then passes the port's gate, so that no request under way still uses what
// was removed.

internal import Synchronization

/// Which translations of one function an invalidation removes.
package enum DeviceTLBScope: Hashable, Sendable {
  case all
  /// Those that intersect 2^`shift` bytes at the address, a multiple of that.
  case pages(IOVA, shift: Int)

  /// The naturally aligned 2^`shift` bytes that `address` is in.
  static func aligned(_ address: UInt64, shift: Int) -> DeviceTLBScope {
    shift >= 64 ? .all : .pages(IOVA((address >> UInt64(shift)) << UInt64(shift)), shift: shift)
  }
}

/// Size of a device TLB, in sets of 8 translations of 4 KiB.
package struct DeviceTLBGeometry: Hashable, Sendable {
  /// 0: the function keeps none.
  package var sets = 8
  /// Groups of page requests that can be outstanding, at most 512.
  package var pageRequestGroups = 32

  package init() {}
}

final class DeviceTLB: Sendable {
  let requester: RequesterID
  private let isOff: Bool
  private let groupLimit: Int
  private let state: Mutex<State>

  /// SAFETY: owns the memory that its cache points to, and is only reached with the lock held.
  private struct State: ~Copyable, @unchecked Sendable {
    var translations: IOTLB
    /// How many invalidations there were.
    var generation: UInt64 = 0
    var groups: [UInt32: Group] = [:]
    var nextGroup: UInt32 = 0
    var receiver: PageResponseReceiver?
  }

  private struct Group {
    let pasid: PASID?
    var status = Status.sending

    enum Status {
      /// Its requests are being sent.
      case sending
      case answered(PageResponse)
      /// All are sent; the receiver is told of the answer.
      case awaited
    }
  }

  init(requester: RequesterID, _ geometry: DeviceTLBGeometry = .init()) {
    self.requester = requester
    isOff = geometry.sets <= 0
    groupLimit = min(geometry.pageRequestGroups, 512)
    var iotlb = IOTLBGeometry()
    (iotlb.sets4K, iotlb.sets2M, iotlb.sets1G) = (geometry.sets, 1, 1)
    state = Mutex(State(translations: IOTLB(iotlb)))
  }

  // MARK: Translations

  /// Untagged translations have the tag of a PASID that does not exist.
  private static func tag(_ pasid: PASID?) -> IOTLBTag {
    IOTLBTag(domain: DomainID(rawValue: 0), pasid: pasid ?? PASID(rawValue: 1 << 20))
  }

  /// The translation of the page that holds `iova`, if there is one that allows `access`, and what to
  /// tell ``insert(_:for:pasid:generation:)`` otherwise.
  func lookup(
    _ iova: UInt64, pasid: PASID?, access: Permissions
  ) -> (page: Translation?, generation: UInt64) {
    state.withLock { state in
      (state.translations.lookup(Self.tag(pasid), iova, for: access), state.generation)
    }
  }

  /// Keeps the piece of `page` that holds `iova`, unless an invalidation came in between.
  func insert(_ page: Translation, for iova: UInt64, pasid: PASID?, generation: UInt64) {
    guard !isOff else { return }
    let piece = Translation(
      physical: PhysicalAddress(page.address(of: iova).rawValue & ~0xfff), shift: Frame.shift,
      permissions: page.permissions)
    state.withLock { state in
      guard state.generation == generation else { return }
      state.translations.insert(Self.tag(pasid), iova, piece)
    }
  }

  /// An invalidation message. Without PASID it is for what was asked for without PASID in the range, and
  /// for everything that was asked for with one (PCIe 6 §10.3.8).
  func invalidate(_ scope: DeviceTLBScope, pasid: PASID?) {
    let tag = Self.tag(pasid)
    state.withLock { state in
      state.generation &+= 1
      state.translations.removeAll { entry in
        guard entry.tag == tag else { return pasid == nil }
        guard case .pages(let iova, let shift) = scope else { return true }
        return entry.address >> UInt64(shift) == iova.rawValue >> UInt64(shift)
      }
    }
  }

  /// Forgets everything, as a function does when it is reset or ATS is disabled.
  func reset() {
    state.withLock { state in
      state.generation &+= 1
      state.translations.invalidate(.global)
      state.groups = [:]
    }
  }

  /// Translations held now.
  var count: Int { state.withLock { $0.translations.count } }

  // MARK: Page requests

  func setReceiver(_ receiver: PageResponseReceiver?) {
    state.withLock { $0.receiver = receiver }
  }

  /// The number of a new group; nil when all are in use.
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

  /// All requests of the group are sent.
  /// - Returns: the answer, when there is one already.
  func endSending(_ group: UInt32) -> PageResponse? {
    state.withLock { state in
      if case .answered(let response)? = state.groups[group]?.status {
        state.groups[group] = nil
        return response
      }
      state.groups[group]?.status = .awaited
      return nil
    }
  }

  /// An answer that names a group by its number alone.
  func answer(group: UInt32, _ response: PageResponse) {
    guard let pasid = state.withLock({ $0.groups[group].map { $0.pasid } }) else { return }
    answer(PageRequestGroupID(requester: requester, pasid: pasid, group: group), response)
  }

  /// The same answer to all that are outstanding.
  func answerAll(_ response: PageResponse) {
    for group in state.withLock({ $0.groups.keys.sorted() }) { answer(group: group, response) }
  }

  /// A response message. One that nothing is outstanding for is dropped (PCIe 6 §10.4.2).
  func answer(_ id: PageRequestGroupID, _ response: PageResponse) {
    let receiver = state.withLock { state -> PageResponseReceiver? in
      guard let group = state.groups[id.group], group.pasid == id.pasid else { return nil }
      switch group.status {
      case .sending:
        state.groups[id.group]?.status = .answered(response)
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
