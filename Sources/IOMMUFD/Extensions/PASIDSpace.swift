// The PASIDs of a whole machine, as VFIO's proposal of 2020 hands them out (vfio_mm, ioasid): each
// belongs to the process that allocated it, which may have so many of them, and goes with the open
// iommufd through which it was allocated. A process is known by its memory, so its threads share, and
// what fork() makes does not.
//
// Everybody who binds a table to a PASID holds it: then only that one can have it freed, and one whose
// file is gone lives on until it is let go.

internal import Host
internal import Synchronization
internal import SystemPackage

final class PASIDSpace: Sendable {
  private struct Allocation {
    let owner: AddressSpace
    /// Through which file; nil when that is gone.
    var context: ObjectIdentifier?
    /// Who has a table bound to it.
    var holders: Set<ObjectIdentifier> = []
  }

  /// PCIe 6 §6.20: 20 bits. 0 is how an IOMMU names requests without PASID.
  static let range: ClosedRange<UInt32> = 1...(1 << 20 - 1)

  private let quota: Int
  private let allocations = Mutex<[UInt32: Allocation]>([:])

  init(quota: Int) { self.quota = quota }

  /// The lowest that is free from `first` to `last`. ioasid_alloc()
  /// - Throws: `.invalidArgument`, `.noSpace`.
  func allocate(
    _ first: UInt32, through last: UInt32, for owner: AddressSpace, by context: ObjectIdentifier
  ) throws(Errno) -> UInt32 {
    guard first <= last else { throw .invalidArgument }
    let (lower, upper) = (max(first, Self.range.lowerBound), min(last, Self.range.upperBound))
    guard lower <= upper else { throw .noSpace }
    return try allocations.withLock { allocations throws(Errno) in
      let owned = allocations.values.count { $0.owner === owner }
      guard owned < quota, let pasid = (lower...upper).first(where: { allocations[$0] == nil })
      else { throw .noSpace }
      allocations[pasid] = Allocation(owner: owner, context: context)
      return pasid
    }
  }

  /// ioasid_find()
  /// - Throws: `.noSuchFileOrDirectory` for one that is not allocated, `.permissionDenied` (EACCES) for
  ///   another process's.
  func requireOwner(_ owner: AddressSpace, of pasid: UInt32) throws(Errno) {
    try allocations.withLock { allocations throws(Errno) in
      _ = try Self.find(pasid, of: owner, in: allocations)
    }
  }

  private static func find(
    _ pasid: UInt32, of owner: AddressSpace, in allocations: [UInt32: Allocation]
  ) throws(Errno) -> Allocation {
    guard let allocation = allocations[pasid] else { throw .noSuchFileOrDirectory }
    guard allocation.owner === owner else { throw .permissionDenied }
    return allocation
  }

  /// The PASIDs from `first` to `last` that are `owner`'s.
  func all(of owner: AddressSpace, _ first: UInt32, through last: UInt32) -> [UInt32] {
    allocations.withLock { allocations in
      allocations.compactMap { pasid, allocation in
        pasid >= first && pasid <= last && allocation.owner === owner ? pasid : nil
      }
    }.sorted()
  }

  /// - Throws: as ``requireOwner(_:of:)``; `.resourceBusy` while somebody holds it.
  func free(_ pasid: UInt32, of owner: AddressSpace) throws(Errno) {
    try allocations.withLock { allocations throws(Errno) in
      let allocation = try Self.find(pasid, of: owner, in: allocations)
      guard allocation.holders.isEmpty else { throw .resourceBusy }
      allocations[pasid] = nil
    }
  }

  /// `context` has a table bound to it, or is about to.
  /// - Throws: as ``requireOwner(_:of:)``
  func hold(
    _ pasid: UInt32, of owner: AddressSpace, by context: ObjectIdentifier
  ) throws(Errno) {
    try allocations.withLock { allocations throws(Errno) in
      var allocation = try Self.find(pasid, of: owner, in: allocations)
      allocation.holders.insert(context)
      allocations[pasid] = allocation
    }
  }

  func letGo(_ pasid: UInt32, by context: ObjectIdentifier) {
    allocations.withLock { allocations in
      guard var allocation = allocations[pasid] else { return }
      allocation.holders.remove(context)
      let isForgotten = allocation.context == nil && allocation.holders.isEmpty
      allocations[pasid] = isForgotten ? nil : allocation
    }
  }

  /// Frees what was allocated through `context`, which is no more.
  func freeAll(of context: ObjectIdentifier) {
    allocations.withLock { allocations in
      for (pasid, allocation) in allocations where allocation.context == context {
        allocations[pasid] = nil
        if allocation.holders.isEmpty { continue }
        var orphan = allocation
        orphan.context = nil
        allocations[pasid] = orphan
      }
    }
  }

  /// PASIDs that are allocated now, for tests.
  var count: Int { allocations.withLock { $0.count } }
}
