// SPDX-License-Identifier: Apache-2.0

// The PASIDs of a machine, as VFIO's proposal of 2020 allocates them (vfio_mm, ioasid). A PASID
// belongs to the process that allocated it, and is freed with the context through which it was
// allocated. A process is identified by its address space: its threads share PASIDs, and a child of
// fork(2) is another process. A process may have at most `quota` PASIDs.
//
// A context that has a table bound to a PASID holds the PASID. A held PASID cannot be freed. When
// the context through which it was allocated is released, a held PASID stays allocated until the
// last context releases it.
//
// All contexts of the machine share the object; its lock is a leaf.

internal import Host
internal import IOMMU
internal import Synchronization
internal import SystemPackage

final class PASIDSpace: Sendable {
  private struct Allocation {
    let owner: AddressSpace
    /// The context through which the PASID was allocated. `nil` when that was released.
    var context: ObjectIdentifier?
    /// The contexts that have a table bound to the PASID.
    var holders: Set<ObjectIdentifier> = []
  }

  /// PCIe 6 §6.20: 20 bits. An IOMMU uses PASID 0 for requests without PASID.
  static let range: ClosedRange<UInt32> = 1...(1 << 20 - 1)

  private let quota: Int
  private let allocations = Mutex<[UInt32: Allocation]>([:])

  init(quota: Int) { self.quota = quota }

  /// Allocates the lowest free PASID from `first` through `last`. ioasid_alloc()
  /// - Throws: `.invalidArgument` when `first` is greater than `last`; `.noSpace` when none is free
  ///   or the owner has as many as it may have.
  func allocate(
    _ first: UInt32, through last: UInt32, for owner: AddressSpace, by context: ObjectIdentifier
  ) throws(Errno) -> PASID {
    guard first <= last else { throw .invalidArgument }
    let (lower, upper) = (max(first, Self.range.lowerBound), min(last, Self.range.upperBound))
    guard lower <= upper else { throw .noSpace }
    return try allocations.withLock { allocations throws(Errno) in
      let owned = allocations.values.count { $0.owner === owner }
      guard owned < quota, let pasid = (lower...upper).first(where: { allocations[$0] == nil })
      else { throw .noSpace }
      allocations[pasid] = Allocation(owner: owner, context: context)
      return PASID(rawValue: pasid)
    }
  }

  /// ioasid_find()
  /// - Throws: `.noSuchFileOrDirectory` when `pasid` is not allocated, `.permissionDenied` (EACCES)
  ///   when it belongs to another process.
  func requireOwner(_ owner: AddressSpace, of pasid: PASID) throws(Errno) {
    try allocations.withLock { allocations throws(Errno) in
      _ = try Self.find(pasid, of: owner, in: allocations)
    }
  }

  private static func find(
    _ pasid: PASID, of owner: AddressSpace, in allocations: [UInt32: Allocation]
  ) throws(Errno) -> Allocation {
    guard let allocation = allocations[pasid.rawValue] else { throw .noSuchFileOrDirectory }
    guard allocation.owner === owner else { throw .permissionDenied }
    return allocation
  }

  /// Returns the PASIDs from `first` through `last` that belong to `owner`, in ascending order.
  func all(of owner: AddressSpace, _ first: UInt32, through last: UInt32) -> [PASID] {
    allocations.withLock { allocations in
      allocations.compactMap { pasid, allocation in
        pasid >= first && pasid <= last && allocation.owner === owner ? pasid : nil
      }
    }.sorted().map(PASID.init(rawValue:))
  }

  /// - Throws: as ``requireOwner(_:of:)``; `.resourceBusy` while a context holds `pasid`.
  func free(_ pasid: PASID, of owner: AddressSpace) throws(Errno) {
    try allocations.withLock { allocations throws(Errno) in
      let allocation = try Self.find(pasid, of: owner, in: allocations)
      guard allocation.holders.isEmpty else { throw .resourceBusy }
      allocations[pasid.rawValue] = nil
    }
  }

  /// Keeps `pasid` from being freed until ``release(_:by:)``. Holding it twice is holding it once.
  /// - Throws: as ``requireOwner(_:of:)``
  func hold(
    _ pasid: PASID, of owner: AddressSpace, by context: ObjectIdentifier
  ) throws(Errno) {
    try allocations.withLock { allocations throws(Errno) in
      var allocation = try Self.find(pasid, of: owner, in: allocations)
      allocation.holders.insert(context)
      allocations[pasid.rawValue] = allocation
    }
  }

  func release(_ pasid: PASID, by context: ObjectIdentifier) {
    allocations.withLock { allocations in
      guard var allocation = allocations[pasid.rawValue] else { return }
      allocation.holders.remove(context)
      let isUnused = allocation.context == nil && allocation.holders.isEmpty
      allocations[pasid.rawValue] = isUnused ? nil : allocation
    }
  }

  /// Frees what was allocated through `context`, which is being released.
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

  /// The number of allocated PASIDs, for tests.
  var count: Int { allocations.withLock { $0.count } }
}
