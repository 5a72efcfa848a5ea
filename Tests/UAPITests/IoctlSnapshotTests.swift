// SPDX-License-Identifier: Apache-2.0

import CUAPI
import SystemPackage
import TestSupport
import Testing

@testable import UAPI

@Suite("What a trace shows of an ioctl's struct") struct IoctlSnapshotTests {
  private let pages = TestMemory()
  private let memory = InProcessClient()

  /// Stores `argument` in memory and returns its address.
  private func store<Argument: BitwiseCopyable>(_ argument: Argument) -> UInt64 {
    pages.store(argument)
    return pages.address
  }

  @Test("Fields have their C names, and changes are those with another value afterwards")
  func fieldsAndChanges() throws {
    var argument = iommu_ioas_map()
    argument.size = UInt32(MemoryLayout<iommu_ioas_map>.size)
    (argument.flags, argument.ioas_id, argument.length) = (6, 12, 0x1000)
    let address = store(argument)
    let before = try #require(Ioctl.ioasMap.snapshot(at: address, in: memory))
    #expect(before.text == "{flags=0x6, ioas_id=12, user_va=0x0, length=0x1000, iova=0x0}")
    argument.iova = 0x10000
    pages.store(argument)
    let after = try #require(Ioctl.ioasMap.snapshot(at: address, in: memory))
    #expect(after.changes(since: before) == " => {iova=0x10000}")
    #expect(after.changes(since: after).isEmpty)
  }

  @Test("A shorter struct ends where its size says, and the missing fields are shown as 0")
  func shortStructs() throws {
    let address = store(iommu_destroy(size: 4, id: 7))
    #expect(Ioctl.destroy.snapshot(at: address, in: memory)?.text == "{id=0}")
    pages.store(UInt32(0))
    #expect(Ioctl.destroy.snapshot(at: address, in: memory)?.text == "{id=0}")
    pages.store(UInt32.max)
    #expect(Ioctl.destroy.snapshot(at: address, in: memory)?.text == "{id=7}")
  }

  @Test("A reserved field is shown when it is not 0")
  func reservedFields() throws {
    var argument = iommu_option()
    argument.size = UInt32(MemoryLayout<iommu_option>.size)
    argument.__reserved = 1
    let text = Ioctl.option.snapshot(at: store(argument), in: memory)?.text
    #expect(text == "{option_id=0, op=0, __reserved=0x1, object_id=0, val64=0x0}")
  }

  @Test("A member called size that is not the struct's own size is shown")
  func membersCalledSize() throws {
    var argument = vfio_iommu_type1_dma_map()
    argument.argsz = UInt32(MemoryLayout<vfio_iommu_type1_dma_map>.size)
    (argument.flags, argument.iova, argument.size) = (3, 0x1000, 0x2000)
    let text = Ioctl.vfioIOMMUMapDMA.snapshot(at: store(argument), in: memory)?.text
    #expect(text == "{flags=0x3, vaddr=0x0, iova=0x1000, size=0x2000}")
  }

  @Test("There is no snapshot of unreadable memory, and none of an ioctl without a struct")
  func noSnapshot() {
    #expect(Ioctl.ioasAlloc.snapshot(at: 8, in: memory) == nil)
    #expect(Ioctl.vfioGetAPIVersion.snapshot(at: store(UInt32(8)), in: memory) == nil)
  }
}
