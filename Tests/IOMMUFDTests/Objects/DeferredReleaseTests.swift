// SPDX-License-Identifier: Apache-2.0

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

@Suite struct DeferredReleaseTests {
  private static let pages = 5000

  /// Maps `pages` in an IOAS with a domain of a new file, in areas of `pagesPerArea` pages.
  /// - Returns: the file, and the error that ended the mapping.
  private func map(
    _ pages: TestMemory, pagesPerArea: Int, _ memory: PhysicalMemory, _ client: InProcessClient
  ) throws -> (file: ControlFile, error: Errno?) {
    let file = try ControlFile(client: client, memory: memory, hasSelftest: true)
    let ioas = try file.makeIOAS()
    var device = iommu_test_cmd()
    device.size = UInt32(MemoryLayout<iommu_test_cmd>.size)
    device.op = UInt32(IOMMU_TEST_OP_MOCK_DOMAIN)
    device.id = ioas
    let argument = TestMemory()
    argument.base.storeBytes(of: device, as: iommu_test_cmd.self)
    #expect(file.call(.test, argument.address) == .success(0))
    for index in stride(from: 0, to: Self.pages, by: pagesPerArea) {
      let offset = UInt64(index * 4096)
      var map = iommu_ioas_map(
        size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: pages.address + offset,
        length: UInt64(pagesPerArea * 4096), iova: UInt64(MOCK_APERTURE_START) + offset)
      if let error = file.call(.ioasMap, &map) { return (file, error) }
    }
    return (file, nil)
  }

  @Test("a call finds all memory free that a file which was closed before it had pinned")
  func memoryIsFree() throws {
    var limits = PhysicalMemory.Limits.test
    limits.pinnedFrames = Self.pages
    let memory = try PhysicalMemory(limits)
    let (pages, others) = (TestMemory(pages: Self.pages), TestMemory(pages: Self.pages))
    let client = InProcessClient()
    for _ in 0..<5 {
      let (first, error) = try map(pages, pagesPerArea: 1, memory, client)
      #expect(error == nil)
      #expect(memory.pinnedFrames == Self.pages)
      first.close()
      // One call needs all frames.
      let (second, otherError) = try map(others, pagesPerArea: Self.pages, memory, client)
      #expect(otherError == nil)
      second.close()
    }
    #expect(memory.pinnedFrames == 0)
  }
}
