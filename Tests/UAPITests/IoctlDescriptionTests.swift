import CUAPI
import SystemPackage
import TestSupport
import Testing

@testable import UAPI

/// The text of a trace about structs in a caller's memory.
@Suite struct IoctlDescriptionTests {
  private let pages = TestMemory()
  private let memory = InProcessClient()

  private func place<Argument: BitwiseCopyable>(_ argument: Argument) -> UInt64 {
    pages.store(argument)
    return pages.address
  }

  @Test("a description has the fields of the struct and the fields that the call changed")
  func fieldsAndWhatChanged() throws {
    let map = try #require(IoctlDescription.of(IoctlNumber.ioasMap.rawValue, on: "/dev/iommu"))
    #expect(map.name == "IOMMU_IOAS_MAP")
    var argument = iommu_ioas_map()
    argument.size = UInt32(MemoryLayout<iommu_ioas_map>.size)
    (argument.flags, argument.ioas_id, argument.length) = (6, 12, 0x1000)
    let address = place(argument)
    let before = try #require(map.snapshot(at: address, in: memory))
    #expect(before.text == "{flags=0x6, ioas_id=12, user_va=0x0, length=0x1000, iova=0x0}")
    argument.iova = 0x10000
    pages.store(argument)
    let after = try #require(map.snapshot(at: address, in: memory))
    #expect(after.changes(since: before) == " => {iova=0x10000}")
    #expect(after.changes(since: after).isEmpty)
  }

  @Test("fields behind the size of a short struct are 0")
  func shortStructs() throws {
    let request = try #require(IoctlDescription.of(IoctlNumber.destroy.rawValue, on: nil))
    let address = place(iommu_destroy(size: 4, id: 7))
    #expect(request.snapshot(at: address, in: memory)?.text == "{id=0}")
    pages.store(UInt32(0))
    #expect(request.snapshot(at: address, in: memory)?.text == "{id=0}")
    pages.store(UInt32.max)
    #expect(request.snapshot(at: address, in: memory)?.text == "{id=7}")
  }

  @Test("a reserved field is described when it is not 0")
  func reservedFields() throws {
    let request = try #require(IoctlDescription.of(IoctlNumber.option.rawValue, on: "/dev/iommu"))
    var argument = iommu_option()
    argument.size = UInt32(MemoryLayout<iommu_option>.size)
    argument.__reserved = 1
    let text = request.snapshot(at: place(argument), in: memory)?.text
    #expect(text == "{option_id=0, op=0, __reserved=0x1, object_id=0, val64=0x0}")
  }

  @Test("a struct that cannot be read and a command without a struct have no snapshot")
  func unreadableStructs() throws {
    let request = try #require(IoctlDescription.of(IoctlNumber.ioasAlloc.rawValue, on: nil))
    #expect(request.snapshot(at: 8, in: memory) == nil)
    let bare = try #require(IoctlDescription.of(IoctlNumber.vfioGetAPIVersion.rawValue, on: nil))
    #expect(bare.snapshot(at: place(UInt32(8)), in: memory) == nil)
  }

  @Test("the node decides which ioctl a number means")
  func numbersOfNodes() {
    let number = IoctlNumber.vfioIOMMUMapDMA.rawValue
    #expect(IoctlDescription.of(number, on: "/dev/iommu")?.name == "VFIO_IOMMU_MAP_DMA")
    let device = IoctlDescription.of(number, on: "/dev/vfio/devices/vfio1")
    #expect(device?.name == "VFIO_DEVICE_PCI_HOT_RESET")
    #expect(IoctlDescription.of(0x1234, on: "/dev/iommu") == nil)
  }
}
