import Testing
import UAPI

/// Numbers that a client has compiled in.
@Suite struct NumberTests {
  @Test(
    arguments: [
      (.destroy, 0x3b80), (.ioasAlloc, 0x3b81), (.ioasMap, 0x3b85), (.ioasUnmap, 0x3b86),
      (.vfioIOAS, 0x3b88), (.hwptAlloc, 0x3b89), (.hwptInvalidate, 0x3b8d), (.ioasMapFile, 0x3b8f),
      (.hardwareQueueAlloc, 0x3b94), (.ioasNoIOMMUGetPA, 0x3b95), (.test, 0x3ba0),
      (.simFaultLogAlloc, 0x3be0), (.vfioGetAPIVersion, 0x3b64), (.vfioIOMMUUnmapDMA, 0x3b72),
      (.vfioDeviceGetInfo, 0x3b6b), (.vfioDeviceFeature, 0x3b75),
      (.vfioDeviceDetachIOMMUFDPageTable, 0x3b78),
    ] as [(IoctlNumber, UInt32)])
  func ioctls(_ number: IoctlNumber, _ value: UInt32) {
    #expect(number.rawValue == value)
    #expect(UInt32(number.number) == value & 0xff)
  }

  @Test(arguments: [0, 1, 7, 8] as [UInt64])
  func regions(_ index: UInt64) {
    let start = RegionOffset.start(of: index)
    #expect(start >= 1 << 40)
    #expect(RegionOffset.index(of: start) == index)
    #expect(RegionOffset.index(of: start + (1 << 40) - 1) == index)
    #expect(RegionOffset.index(of: start - 1) == index &- 1)
    #expect(RegionOffset.position(in: start + 0x1234) == 0x1234)
  }
}
