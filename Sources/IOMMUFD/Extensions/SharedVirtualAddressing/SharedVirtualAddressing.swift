// SPDX-License-Identifier: Apache-2.0

// The extension `vfio-sva`: shared virtual addressing on a VFIO container, as proposed in 2020. A
// process allocates PASIDs, binds a guest's page table to one of them for every device of the
// container, and passes the guest's invalidations on. The container is the IOAS of IOMMU_VFIO_IOAS.
// A bound table is a nested HWPT on the HWPT that the device is attached to, which must be a
// nesting parent; it is attached to the PASID of every device of the container.
//
// The object holds the bound tables of one context. A bound table is destroyed with the last device
// that has it: by VFIO_IOMMU_BIND's unbind, when its PASID is freed through this context, or when
// the device leaves the IOAS. The PASIDs belong to the whole machine (`PASIDSpace`). While a table
// is bound to a PASID the context holds the PASID, so that it cannot be freed.
//
// SharedVirtualAddressing+Commands.swift has the container commands.

internal import CUAPI
internal import IOMMU
internal import SystemPackage
internal import UAPI

final class SharedVirtualAddressing: ExtensionHooks {
  let space: PASIDSpace
  /// Guarded by the context's lock.
  private var boundTables: [ObjectID: [PASID: NestedHWPT]] = [:]

  init(_ space: PASIDSpace) {
    self.space = space
  }

  // MARK: Hooks

  func automaticDomainFlags(ofContainerType type: UInt64) -> PagingDomainFlags? {
    type == UInt64(VFIO_TYPE1_NESTING_IOMMU) ? [.nestParent, .pasid] : nil
  }

  func deviceLeavesIOAS(_ device: BoundDevice) {
    let pasids = boundTables[device.id, default: [:]].keys
    for pasid in pasids.sorted(by: { $0.rawValue < $1.rawValue }) { unbind(pasid, of: device) }
  }

  func contextIsReleased(_ context: Context) {
    space.freeAll(of: context.identity)
  }

  // MARK: Bound tables, with the context's lock held

  /// Binds `table` to `pasid` of all `devices`, or of none.
  /// - Parameter hold: keeps the PASID from being freed.
  /// - Throws: `.resourceBusy` when a device has a table on the PASID; what `hold`, the driver and
  ///   the attach throw.
  func bind(
    _ table: BoundGuestTable, to pasid: PASID, of devices: [BoundDevice], in context: Context,
    hold: () throws(Errno) -> Void
  ) throws(Errno) {
    context.lock.assertHeld()
    guard devices.allSatisfy({ boundTables[$0.id]?[pasid] == nil }) else { throw .resourceBusy }
    try hold()
    var made: [ObjectIdentifier: NestedHWPT] = [:]
    do throws(Errno) {
      for device in devices {
        let parent = try device.nestingParent()
        let hwpt: NestedHWPT
        if let known = made[ObjectIdentifier(parent)] {
          hwpt = known
        } else {
          hwpt = try table.makeHWPT(for: device, on: parent)
          made[ObjectIdentifier(parent)] = hwpt
        }
        try device.attachDirectly(to: hwpt, pasid: pasid)
        device.addUser()
        boundTables[device.id, default: [:]][pasid] = hwpt
      }
    } catch {
      for device in devices where removeTable(of: pasid, of: device) != nil {
        device.detachAndPut(pasid: pasid)
      }
      for hwpt in made.values { hwpt.abort() }
      releaseIfUnbound(pasid, in: context)
      throw error
    }
    for hwpt in made.values { context.objects.finalize(hwpt) }
  }

  /// Unbinds the table of `pasid` from every device of the context.
  /// - Returns: `false` when no table was bound to `pasid`.
  func unbind(_ pasid: PASID, in context: Context) -> Bool {
    context.lock.assertHeld()
    let devices = context.objects.all(BoundDevice.self).filter {
      boundTables[$0.id]?[pasid] != nil
    }
    for device in devices { unbind(pasid, of: device) }
    return !devices.isEmpty
  }

  private func unbind(_ pasid: PASID, of device: BoundDevice) {
    guard let hwpt = removeTable(of: pasid, of: device) else { return }
    device.detachAndPut(pasid: pasid)
    // EBUSY while another device has the table.
    try? device.context.destroy(hwpt.id)
    releaseIfUnbound(pasid, in: device.context)
  }

  private func removeTable(of pasid: PASID, of device: BoundDevice) -> NestedHWPT? {
    let hwpt = boundTables[device.id]?.removeValue(forKey: pasid)
    if boundTables[device.id]?.isEmpty == true { boundTables[device.id] = nil }
    return hwpt
  }

  private func releaseIfUnbound(_ pasid: PASID, in context: Context) {
    let isBound = boundTables.values.contains { $0[pasid] != nil }
    if !isBound { space.release(pasid, by: context.identity) }
  }

  /// Drops what units and devices have cached of the guest's tables.
  /// - Throws: `.invalidArgument` when no table is bound to the PASID that the invalidation names.
  func invalidate(_ invalidation: GuestCacheInvalidation) throws(Errno) {
    var tables: [ObjectID: VTdNestedDomain] = [:]
    for (pasid, hwpt) in boundTables.values.joined()
    where invalidation.pasid == nil || invalidation.pasid == pasid {
      tables[hwpt.id] = hwpt.domain as? VTdNestedDomain
    }
    guard invalidation.pasid == nil || !tables.isEmpty else { throw .invalidArgument }
    for table in tables.values { table.invalidate(invalidation) }
  }
}

extension Context {
  /// Names the context in ``PASIDSpace``, which does not keep it alive.
  var identity: ObjectIdentifier { ObjectIdentifier(self) }
}

extension BoundDevice {
  /// Returns the HWPT that the device is attached to, or the parent of a nested one.
  /// - Throws: `.invalidArgument` unless that is a nesting parent of a VT-d unit.
  fileprivate func nestingParent() throws(Errno) -> PagingHWPT {
    let parent =
      switch group.attachments[nil]?.hwpt {
      case let paging as PagingHWPT: paging
      case let nested as NestedHWPT: nested.parent
      default: nil as PagingHWPT?
      }
    guard let parent, parent.flags.contains(.nestParent), device.driver is VTdDriver else {
      throw .invalidArgument
    }
    return parent
  }
}
