// SPDX-License-Identifier: Apache-2.0

// Dirty tracking from the page table entry to the bit in the client's memory. The expected values
// were observed on Linux 7.3.4.

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

private let start = UInt64(MOCK_APERTURE_START)

@Suite struct MockDirtyTests {
  private let mock: MockFile
  private let ioas: UInt32
  private let device: UInt32
  private let hwpt: UInt32
  private let pages = TestMemory(pages: 16)

  init() throws {
    mock = try MockFile()
    ioas = try mock.file.makeIOAS()
    device = try mock.makeDevice(ioas).get().bound
    hwpt = try mock.allocate(
      device, on: ioas, flags: IOMMU_HWPT_ALLOC_DIRTY_TRACKING.rawValue
    ).get()
    // Each page has its own entry for every alignment of the memory.
    var option = iommu_option()
    option.size = UInt32(MemoryLayout<iommu_option>.size)
    option.option_id = IOMMU_OPTION_HUGE_PAGES.rawValue
    option.object_id = ioas
    try #require(mock.file.call(.option, &option) == nil)
    try #require(mock.map(ioas, pages, at: start) == nil)
  }

  private func setTracking(_ isOn: Bool, _ id: UInt32? = nil) -> Errno? {
    var command = iommu_hwpt_set_dirty_tracking(
      size: 16, flags: isOn ? 1 : 0, hwpt_id: id ?? hwpt, __reserved: 0)
    return mock.file.call(.hwptSetDirtyTracking, &command)
  }

  /// Marks pages as written.
  private func write(_ pages: Set<UInt64>) -> Result<UInt64, Errno> {
    let bits = TestMemory()
    bits.store(pages.reduce(UInt64(0)) { $0 | 1 << $1 })
    return mock.test(IOMMU_TEST_OP_DIRTY, id: hwpt) {
      $0.dirty.iova = start
      $0.dirty.length = 16 * 4096
      $0.dirty.page_size = 4096
      $0.dirty.uptr = bits.address
    }.map { $0.dirty.out_nr_dirty }
  }

  private func read(
    _ first: UInt64 = start, length: UInt64 = 16 * 4096, pageSize: UInt64 = 4096,
    flags: UInt32 = 0, at address: UInt64
  ) -> Errno? {
    var command = iommu_hwpt_get_dirty_bitmap()
    command.size = UInt32(MemoryLayout<iommu_hwpt_get_dirty_bitmap>.size)
    command.hwpt_id = hwpt
    command.flags = flags
    command.iova = first
    command.length = length
    command.page_size = pageSize
    command.data = address
    return mock.file.call(.hwptGetDirtyBitmap, &command)
  }

  @Test("a dirty page is reported once, and enabling dirty tracking clears all dirty pages")
  func dirtyPagesAreReportedOnce() throws {
    defer { mock.close() }
    #expect(write([3]).error == .invalidArgument)
    #expect(setTracking(true) == nil)
    #expect(write([0, 3, 15]) == .success(3))
    let bits = TestMemory()
    #expect(read(flags: 1, at: bits.address) == nil)
    #expect(bits.load(UInt64.self) == 0x8009)
    #expect(read(at: bits.address + 100) == nil)
    #expect(bits.load(UInt64.self, at: 100) == 0x8009)
    #expect(read(at: bits.address + 200) == nil)
    #expect(bits.load(UInt64.self, at: 200) == 0)
    // Enabling dirty tracking clears the dirty pages, also when it is enabled already. Disabling
    // does not.
    #expect(write([1]) == .success(1))
    #expect(setTracking(false) == nil)
    #expect(read(flags: 1, at: bits.address + 300) == nil)
    #expect(bits.load(UInt64.self, at: 300) == 2)
    #expect(setTracking(true) == nil)
    #expect(read(at: bits.address + 400) == nil)
    #expect(bits.load(UInt64.self, at: 400) == 0)
  }

  @Test("the arguments of GET_DIRTY_BITMAP are checked, and errors of the walk are dropped")
  func whatIsChecked() throws {
    defer { mock.close() }
    let plain = try mock.allocate(device, on: ioas).get()
    #expect(setTracking(true, plain) == .notSupported)
    #expect(setTracking(true, ioas) == .noSuchFileOrDirectory)
    let bits = TestMemory()
    #expect(read(flags: 2, at: bits.address) == .notSupported)
    #expect(read(length: 0, at: bits.address) == .invalidArgument)
    #expect(read(.max, length: 2, at: bits.address) == .overflow)
    #expect(read(start + 2048, length: 4096, at: bits.address) == .invalidArgument)
    #expect(read(pageSize: 0, at: bits.address) == .invalidArgument)
    #expect(read(pageSize: 1 << 30, at: bits.address) == .invalidArgument)
    // Errors of the walk are dropped: a hole, no bitmap.
    #expect(read(start - 4096, at: bits.address) == nil)
    #expect(setTracking(true) == nil)
    #expect(write([2]) == .success(1))
    #expect(read(at: 0) == nil)
    bits.protect(.read)
    #expect(read(at: bits.address) == nil)
  }

  @Test("an entry of 4 KiB sets the bits of smaller and larger page sizes")
  func sizesOfABit() throws {
    defer { mock.close() }
    #expect(setTracking(true) == nil)
    #expect(write([4]) == .success(1))
    let bits = TestMemory()
    #expect(read(pageSize: 2048, flags: 1, at: bits.address) == nil)
    #expect(bits.load(UInt64.self) == 0x300)
    #expect(read(pageSize: 16384, flags: 1, at: bits.address + 8) == nil)
    #expect(bits.load(UInt64.self, at: 8) == 2)
  }
}

@Suite struct DirtyBitmapTests {
  /// Returns the bits that ranges set in a bitmap that begins at `offset`.
  private func bits(
    _ range: ClosedRange<UInt64>, offset: Int, of ranges: [Range<UInt64>]
  ) -> Set<UInt64> {
    let memory = TestMemory(pages: 4)
    var bitmap = DirtyBitmap(
      at: memory.address + UInt64(offset),
      for: IOVA(range.lowerBound << 12)...IOVA(range.upperBound << 12 | 0xfff), pageSize: 4096,
      memory: InProcessClient())
    for range in ranges {
      bitmap.set(IOVA(range.lowerBound << 12), length: UInt64(range.count) << 12)
    }
    bitmap.finish()
    return Set(
      (0..<UInt64(memory.byteCount - offset) * 8).filter {
        memory.bytes[offset + Int($0) / 8] & 1 << UInt8($0 % 8) != 0
      })
  }

  @Test("a range sets its bits in a bitmap at any offset", arguments: [0, 1, 4000, 4095])
  func bitsOfARange(offset: Int) {
    let ranges: [Range<UInt64>] = [0..<1, 7..<9, 100..<1000, 32000..<33000, 40000..<40001]
    let expected = ranges.reduce(into: Set<UInt64>()) { $0.formUnion($1) }
    #expect(bits(0...50000, offset: offset, of: ranges) == expected)
    // The descending order moves the window of the bitmap backwards.
    #expect(bits(0...50000, offset: offset, of: ranges.reversed()) == expected)
  }

  @Test(
    "an entry that begins before the range sets no bit, and one that ends behind it sets all of its bits in pages of the bitmap"
  )
  func entriesAcrossTheEnds() {
    #expect(bits(100...163, offset: 0, of: [90..<110]) == [])
    #expect(bits(0...3, offset: 0, of: [0..<512]) == Set(0..<512))
    #expect(bits(0...3, offset: 0, of: [0..<100_000]) == Set(0..<4096 * 8))
    // The window has one more page for a bitmap that is not page-aligned.
    #expect(bits(0...3, offset: 4095, of: [0..<100_000]) == Set(0..<4097 * 8))
  }

  /// The kernel pins at most 512 pages of the bitmap at a time.
  @Test("a bitmap of several windows is written completely")
  func aBitmapOfManyWindows() {
    let memory = TestMemory(pages: 1100)
    let last = UInt64(1100 * 4096 * 8 - 1)
    var bitmap = DirtyBitmap(
      at: memory.address, for: 0...IOVA(last << 12 | 0xfff), pageSize: 4096,
      memory: InProcessClient())
    bitmap.set(4096, length: (last - 1) << 12)
    bitmap.finish()
    #expect(memory.bytes.first == 0xfe && memory.bytes.last == 0x7f)
    #expect(memory.bytes.dropFirst().dropLast().allSatisfy { $0 == 0xff })
  }
}
