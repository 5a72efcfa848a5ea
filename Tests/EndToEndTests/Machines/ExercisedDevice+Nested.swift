// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMUFD
import Machine
import SystemPackage
import TestSupport

@testable import IOMMU

// A guest's page table on a nesting parent. Its tables lie in the pages of the device's memory
// behind the two data pages.
extension ExercisedDevice {
  private enum Page {
    static let tables = 2
    static let context = 6
  }

  /// The guest's address of the first data page.
  private static let guestAddress: UInt64 = 0x7654_3210_0000

  private func address(of page: Int) -> UInt64 { iova + UInt64(page) << 12 }

  /// Uses a nested HWPT where the unit and its driver have one, and returns what does not work.
  func nestedProblems(_ device: UInt32, _ ioas: UInt32) throws -> [String] {
    let parent = fixture.allocate(device, on: ioas, IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue)
    guard let parent = try? parent.get(),
      let nested = try makeNested(device, parent)
    else { return [] }
    guard let hwpt = try? nested.get() else {
      return unexpected(nested.error, nil, "nested HWPT_ALLOC")
    }
    // A nested domain of AMD cannot replace a guest table of the driver.
    return unexpected(client.attach(ioas), nil, "attach before a nested HWPT")
      + unexpected(client.attach(hwpt), nil, "attach to a nested HWPT")
      + (try copies("a nested HWPT", at: Self.guestAddress))
  }

  /// Makes a nested HWPT. Returns `nil` when the driver has none.
  private func makeNested(
    _ device: UInt32, _ parent: UInt32
  ) throws -> Result<UInt32, Errno>? {
    switch kind {
    case .vtd:
      writeTables(upper: 7, leaf: 7)
      let data = iommu_hwpt_vtd_s1(
        flags: 0, pgtbl_addr: address(of: Page.tables), addr_width: 48, __reserved: 0)
      return allocate(device, parent, IOMMU_HWPT_DATA_VTD_S1.rawValue, data)
    case .smmuv3(let unit):
      // Every device of the group would need a vDEVICE (arm-smmu-v3:
      // arm_smmu_attach_prepare_vmaster()).
      let groups = fixture.machine.description.devices.map(\.group)
      guard groups.count(where: { $0 == description.group }) == 1 else { return nil }
      writeTables(upper: 3, leaf: 0xf43)
      writeContextDescriptor(stalls: unit.capabilities.stallModel == .stall)
      let viommu = try fixture.makeVirtualIOMMU(
        device, on: parent, type: IOMMU_VIOMMU_TYPE_ARM_SMMUV3.rawValue
      ).get()
      _ = try fixture.makeVirtualDevice(device, on: viommu, id: 7).get()
      let usesATS: UInt64 = description.hasATS && unit.capabilities.ats ? 1 << 28 : 0
      let entry = [1 | 5 << 1 | address(of: Page.context), usesATS] as InlineArray<2, UInt64>
      return allocate(device, viommu, IOMMU_HWPT_DATA_ARM_SMMUV3.rawValue, entry)
    case .amdvi(let configuration):
      guard configuration.guestTableInterface == .uapi else { return nil }
      writeTables(upper: 7, leaf: 7)
      memory.store(address(of: Page.tables) | 1, at: Page.context << 12)
      let viommu = try fixture.makeVirtualIOMMU(device, on: parent, type: 1).get()
      var entry = DeviceTableEntry()
      entry.isValid = true
      entry.isTranslationValid = true
      entry.isGuestValid = true
      entry.usesGuestTableWithoutPASID = true
      entry.guestCR3Table = address(of: Page.context)
      entry.domain = DomainID(rawValue: 1)
      entry.allowsDeviceTLB = description.hasATS && amdFeatures.deviceTLBs
      return allocate(device, viommu, IOMMU_HWPT_DATA_AMD_GUEST.rawValue, entry.words)
    }
  }

  private func allocate(
    _ device: UInt32, _ target: UInt32, _ type: UInt32, _ data: some BitwiseCopyable
  ) -> Result<UInt32, Errno> {
    let copy = TestMemory()
    copy.store(data)
    return fixture.allocate(
      device, on: target, type: type,
      data: (copy.address, UInt32(MemoryLayout.size(ofValue: data))))
  }

  /// Writes a table of four levels that maps the data pages at ``guestAddress``.
  private func writeTables(upper: UInt64, leaf: UInt64) {
    for level in 0..<4 {
      let page = Page.tables + 3 - level
      let index = Int(Self.guestAddress >> UInt64(12 + 9 * level) & 511)
      let target = level == 0 ? iova | leaf : address(of: page + 1) | upper
      memory.store(target, at: page << 12 + index * 8)
      if level == 0 { memory.store(target + 4096, at: page << 12 + (index + 1) * 8) }
    }
  }

  private func writeContextDescriptor(stalls: Bool) {
    var descriptor = ContextDescriptor.test(address(of: Page.tables), asid: 1)
    descriptor.stallsFaults = stalls
    memory.store(descriptor.words, at: Page.context << 12)
  }
}
