import Testing
import UAPI

@Suite struct NumberTests {
  @Test("the ioctl numbers of iommufd are those of the header")
  func iommufd() {
    let numbers: [IoctlNumber] = [
      .destroy, .ioasAlloc, .ioasAllowIOVAs, .ioasCopy, .ioasIOVARanges, .ioasMap, .ioasUnmap,
      .option, .vfioIOAS, .hwptAlloc, .getHardwareInfo, .hwptSetDirtyTracking,
      .hwptGetDirtyBitmap, .hwptInvalidate, .faultQueueAlloc, .ioasMapFile, .viommuAlloc,
      .vdeviceAlloc, .ioasChangeProcess, .veventqAlloc, .hardwareQueueAlloc, .ioasNoIOMMUGetPA,
    ]
    #expect(numbers.map(\.rawValue) == Array(0x3b80...0x3b95))
    #expect(IoctlNumber.test.rawValue == 0x3ba0)
    #expect(IoctlNumber.simFaultLogAlloc.rawValue == 0xc010_3be0)
  }

  @Test("the ioctl numbers of VFIO are those of the header")
  func vfio() {
    let container: [IoctlNumber] = [
      .vfioGetAPIVersion, .vfioCheckExtension, .vfioSetIOMMU, .vfioIOMMUGetInfo, .vfioIOMMUMapDMA,
      .vfioIOMMUUnmapDMA,
    ]
    #expect(container.map(\.rawValue) == [0x3b64, 0x3b65, 0x3b66, 0x3b70, 0x3b71, 0x3b72])
    let device: [IoctlNumber] = [
      .vfioDeviceGetInfo, .vfioDeviceGetRegionInfo, .vfioDeviceGetIRQInfo, .vfioDeviceSetIRQs,
      .vfioDeviceReset, .vfioDeviceGetPCIHotResetInfo, .vfioDevicePCIHotReset,
    ]
    #expect(device.map(\.rawValue) == Array(0x3b6b...0x3b71))
    let later: [IoctlNumber] = [
      .vfioDeviceIOEventFD, .vfioDeviceFeature, .vfioDeviceBindIOMMUFD,
      .vfioDeviceAttachIOMMUFDPageTable, .vfioDeviceDetachIOMMUFDPageTable,
    ]
    #expect(later.map(\.rawValue) == Array(0x3b74...0x3b78))
  }

  @Test(
    "the file offset of a region has the index in its upper bits",
    arguments: [0, 1, 7, 8] as [UInt64])
  func regions(_ index: UInt64) {
    let start = RegionOffset.start(of: index)
    #expect(start >= 1 << 40)
    #expect(RegionOffset.index(of: start) == index)
    #expect(RegionOffset.index(of: start + (1 << 40) - 1) == index)
    #expect(RegionOffset.index(of: start - 1) == index &- 1)
    #expect(RegionOffset.position(in: start + 0x1234) == 0x1234)
  }
}
