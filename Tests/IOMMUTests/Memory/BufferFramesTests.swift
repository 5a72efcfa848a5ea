// SPDX-License-Identifier: Apache-2.0

#if arch(x86_64)
  import Glibc
  import Host
  import SystemPackage
  import TestSupport
  import Testing

  @testable import IOMMU

  private let ownSpace = try? AddressSpace(of: HostTask(id: getpid()))
  private let ownPins = try? ExactPins(OwnAgent())

  /// Frames of pages that the kernel keeps pinned. The pages are those of the test's own process.
  @Suite(.enabled(if: ownPins != nil, "the host has no io_uring"))
  struct BufferFramesTests {
    private let memory: PhysicalMemory

    init() throws { memory = try PhysicalMemory(.test) }

    /// Anonymous memory at a multiple of 4 MiB, which is unmapped at the end of `body`.
    private func withMemory(
      pages: Int, _ body: (UnsafeMutableRawPointer) throws -> Void
    ) throws {
      let size = pages << 12
      let alignment = 4 << 20
      let all = try #require(
        mmap(nil, size + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
      defer { munmap(all, size + alignment) }
      let start = UnsafeMutableRawPointer(
        bitPattern: (UInt(bitPattern: all) + UInt(alignment) - 1) & ~UInt(alignment - 1))
      try body(try #require(start))
    }

    private func pin(_ start: UnsafeMutableRawPointer, pages: Int) throws -> [FrameRun] {
      let address = UInt64(UInt(bitPattern: start))
      let space = try #require(ownSpace)
      let buffers = try #require(ownPins).pin(
        address..<address + UInt64(pages) << 12, of: space)
      return try buffers.flatMap { try memory.pin(.buffer($0), pages: $0.pageCount) }
    }

    @Test("a device and the processor see the same page")
    func pagesAreShared() throws {
      try withMemory(pages: 2) { start in
        let run = try #require(try pin(start, pages: 2).first)
        start.storeBytes(of: 0x1234, as: UInt64.self)
        #expect(memory.word(at: run.physical) == 0x1234)
        #expect(memory.store(0x5678, at: PhysicalAddress(run.physical.rawValue + 4096)) == .done)
        #expect(start.load(fromByteOffset: 4096, as: UInt64.self) == 0x5678)
        memory.unpin(run)
        #expect(memory.word(at: run.physical) == nil)
        #expect(memory.pinnedFrames == 0)
      }
    }

    @Test("a pin keeps its page when another page is mapped there, which has a frame of its own")
    func pinsKeepPages() throws {
      try withMemory(pages: 1) { start in
        start.storeBytes(of: 1, as: UInt64.self)
        let old = try #require(try pin(start, pages: 1).first)
        madvise(start, 4096, MADV_DONTNEED)
        start.storeBytes(of: 2, as: UInt64.self)
        let new = try #require(try pin(start, pages: 1).first)
        #expect(old.physical != new.physical)
        #expect(memory.word(at: old.physical) == 1)
        #expect(memory.word(at: new.physical) == 2)
        let (space, address) = (try #require(ownSpace), UInt64(UInt(bitPattern: start)))
        #expect(!memory.isBuffer(old.physical, at: address, of: space))
        #expect(memory.isBuffer(new.physical, at: address, of: space))
        #expect(memory.bufferCount(at: address, of: space) == 2)
        memory.unpin([old])
        #expect(memory.word(at: new.physical) == 2)
        memory.unpin([new])
      }
    }

    @Test(
      "frames are as aligned as the pages, so that superpages form", arguments: [0, 1, 511, 512])
    func framesAreAligned(first: Int) throws {
      try withMemory(pages: 2048) { start in
        let run = try #require(try pin(start + first << 12, pages: 1536).first)
        #expect(run.pages == 1536)
        #expect((run.physical.rawValue >> 12) % 512 == UInt64(first % 512))
        memory.unpin(run)
      }
    }

    @Test("parts of a pin can be unpinned, and the other part stays")
    func partsAreUnpinned() throws {
      try withMemory(pages: 4) { start in
        start.storeBytes(of: 9, toByteOffset: 8192, as: UInt64.self)
        let run = try #require(try pin(start, pages: 4).first)
        memory.unpin(FrameRun(physical: run.physical, pages: 2))
        #expect(memory.word(at: run.physical) == nil)
        let third = PhysicalAddress(run.physical.rawValue + 8192)
        #expect(memory.word(at: third) == 9)
        memory.unpin(FrameRun(physical: third, pages: 2))
        #expect(memory.pinnedFrames == 0)
      }
    }

    @Test("an access crosses from one pin to the next", arguments: [64, 20_000])
    func accessesCrossPins(count: Int) throws {
      try withMemory(pages: 16) { start in
        let bytes = UnsafeMutableRawBufferPointer(start: start, count: 16 << 12)
        for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index &* 7 >> 3) }
        let runs = try pin(start, pages: 8) + pin(start + 8 << 12, pages: 8)
        try #require(runs[0].physical.rawValue + 8 << 12 == runs[1].physical.rawValue)
        let offset = 8 << 12 - count / 2
        let middle = PhysicalAddress(runs[0].physical.rawValue + UInt64(offset))
        var copy = [UInt8](repeating: 0, count: count)
        #expect(copy.withUnsafeMutableBytes { memory.read(middle, into: $0) } == .done)
        #expect(copy.elementsEqual(bytes[offset..<offset + count]))
        copy.reverse()
        #expect(copy.withUnsafeBytes { memory.write($0, to: middle) } == .done)
        #expect(copy.elementsEqual(bytes[offset..<offset + count]))
        memory.unpin(runs)
      }
    }

    @Test("an entry of a guest's table is updated only while it has the expected value")
    func entriesAreUpdated() throws {
      try withMemory(pages: 1) { start in
        start.storeBytes(of: 0x1003, toByteOffset: 64, as: UInt64.self)
        let run = try #require(try pin(start, pages: 1).first)
        let table = GuestTableMemory(memory)
        let entry = PhysicalAddress(run.physical.rawValue + 64)
        #expect(table.load(entry) == 0x1003)
        #expect(table.update(entry, from: 0x1003, to: 0x1023) == .stored)
        #expect(table.update(entry, from: 0x1003, to: 0x1063) == .changed)
        #expect(start.load(fromByteOffset: 64, as: UInt64.self) == 0x1023)
        memory.unpin(run)
      }
    }

    @Test("ENOMEM when no frames are left, with nothing pinned")
    func limit() throws {
      var limits = PhysicalMemory.Limits.test
      limits.pinnedFrames = 3
      let memory = try PhysicalMemory(limits)
      try withMemory(pages: 4) { start in
        let address = UInt64(UInt(bitPattern: start))
        let buffers = try #require(ownPins).pin(
          address..<address + 4 << 12, of: try #require(ownSpace))
        #expect(throws: Errno.noMemory) { try memory.pin(.buffer(buffers[0]), pages: 4) }
        #expect(memory.pinnedFrames == 0)
      }
    }
  }
#endif
