// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import Testing

@testable import UAPI

@Suite("The ioctl catalogue") struct IoctlCatalogueTests {
  private static let rows = IoctlTable.iommufd.rows + IoctlTable.vfioDevice.rows

  @Test("The numbers of iommufd's ioctls are those that clients have compiled in")
  func numbersOfIOMMUFD() {
    let rows: [Ioctl] = [
      .destroy, .ioasAlloc, .ioasAllowIOVAs, .ioasCopy, .ioasIOVARanges, .ioasMap, .ioasUnmap,
      .option, .vfioIOAS, .hwptAlloc, .getHardwareInfo, .hwptSetDirtyTracking,
      .hwptGetDirtyBitmap, .hwptInvalidate, .faultQueueAlloc, .ioasMapFile, .viommuAlloc,
      .vdeviceAlloc, .ioasChangeProcess, .veventqAlloc, .hardwareQueueAlloc, .ioasNoIOMMUGetPA,
    ]
    #expect(rows.map(\.number.rawValue) == Array(0x3b80...0x3b95))
    #expect(Ioctl.test.number.rawValue == 0x3ba0)
    #expect(Ioctl.simFaultLogAlloc.number.rawValue == 0xc010_3be0)
    #expect(Ioctl.simVTdInvalidateFail.number.rawValue == 0xc018_3be1)
  }

  @Test("The numbers of VFIO's ioctls are those that clients have compiled in")
  func numbersOfVFIO() {
    let container: [Ioctl] = [
      .vfioGetAPIVersion, .vfioCheckExtension, .vfioSetIOMMU, .vfioIOMMUGetInfo, .vfioIOMMUMapDMA,
      .vfioIOMMUUnmapDMA,
    ]
    #expect(container.map(\.number.rawValue) == [0x3b64, 0x3b65, 0x3b66, 0x3b70, 0x3b71, 0x3b72])
    let device: [Ioctl] = [
      .vfioDeviceGetInfo, .vfioDeviceGetRegionInfo, .vfioDeviceGetIRQInfo, .vfioDeviceSetIRQs,
      .vfioDeviceReset, .vfioDeviceGetPCIHotResetInfo, .vfioDevicePCIHotReset,
    ]
    #expect(device.map(\.number.rawValue) == Array(0x3b6b...0x3b71))
    let later: [Ioctl] = [
      .vfioDeviceIOEventFD, .vfioDeviceFeature, .vfioDeviceBindIOMMUFD,
      .vfioDeviceAttachIOMMUFDPageTable, .vfioDeviceDetachIOMMUFDPageTable,
    ]
    #expect(later.map(\.number.rawValue) == Array(0x3b74...0x3b78))
  }

  @Test("Every owner has rows, and no C name has two")
  func names() {
    #expect(Set(Self.rows.map(\.owner)) == Set(Ioctl.Owner.allCases))
    #expect(Set(Self.rows.map(\.name)).count == Self.rows.count)
  }

  @Test(
    "A struct begins with its size, and its minimum size is at least that member", arguments: rows)
  func sizes(_ row: Ioctl) {
    guard let structure = row.structure else { return }
    #expect(["size", "argsz"].contains(structure.fields.first?.name))
    #expect(structure.fields.first?.size == 4)
    #expect((4...structure.size).contains(structure.minimumSize))
  }

  /// The rows of the dispatcher's table have such a test in DispatcherTests.
  @Test("The minimum sizes of VFIO's structs are those of their first versions")
  func minimumSizesOfVFIO() {
    let minimumSizes: [Ioctl: Int] = [
      .vfioIOMMUGetInfo: 16, .vfioIOMMUMapDMA: 32, .vfioIOMMUUnmapDMA: 24,
      .vfioIOMMUBind: 8, .vfioIOMMUCacheInvalidate: 8, .vfioIOMMUPASIDRequest: 8,
      .vfioDeviceAttachIOMMUFDPageTable: 12, .vfioDeviceBindIOMMUFD: 16,
      .vfioDeviceDetachIOMMUFDPageTable: 8, .vfioDeviceFeature: 8, .vfioDeviceGetInfo: 16,
      .vfioDeviceGetIRQInfo: 16, .vfioDeviceGetPCIHotResetInfo: 12, .vfioDeviceGetRegionInfo: 32,
      .vfioDeviceIOEventFD: 28, .vfioDevicePCIHotReset: 12, .vfioDeviceSetIRQs: 20,
    ]
    for row in Self.rows where row.name.hasPrefix("VFIO_") && row.structure != nil {
      #expect(row.minimumSize == minimumSizes[row], "\(row)")
    }
  }

  @Test(
    "Flags belong to a field of the struct, fit into it and have different bits", arguments: rows)
  func flags(_ row: Ioctl) throws {
    for (name, flags) in row.structure?.flags ?? [:] {
      let field = try #require(row.structure?.fields.first { $0.name == name })
      var seen: UInt64 = 0
      for flag in flags {
        #expect(flag.value != 0 && flag.value & seen == 0, "\(flag.name)")
        #expect(field.size == 8 || flag.value >> (field.size * 8) == 0, "\(flag.name)")
        seen |= flag.value
      }
    }
  }

  private final class File: OpenFile {
    let isVFIODevice: Bool
    init(isVFIODevice: Bool) { self.isVFIODevice = isVFIODevice }
    func release() {}
  }

  @Test("The kind of the open file decides between container and device requests of one number")
  func kindOfFile() {
    let number = Ioctl.vfioIOMMUMapDMA.number
    #expect(number == Ioctl.vfioDevicePCIHotReset.number)
    #expect(File(isVFIODevice: false).ioctls[number]?.name == "VFIO_IOMMU_MAP_DMA")
    #expect(File(isVFIODevice: true).ioctls[number]?.name == "VFIO_DEVICE_PCI_HOT_RESET")
    #expect(File(isVFIODevice: false).ioctls[IoctlNumber(rawValue: 0x1234)] == nil)
  }
}
