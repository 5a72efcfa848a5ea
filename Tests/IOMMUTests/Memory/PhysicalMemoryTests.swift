// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Host
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

extension PhysicalMemory {
  func store(_ value: UInt64, at physical: PhysicalAddress) -> MemoryOutcome {
    withUnsafeBytes(of: value) { write($0, to: physical) }
  }
}

@Suite struct PhysicalMemoryTests {
  /// The host maps a huge page of a file only at a multiple of its size.
  @Test("the window begins at a multiple of 1 GiB")
  func hugePagesCanBeMapped() throws {
    let memory = try PhysicalMemory(.test)
    #expect(UInt(bitPattern: memory.window.base) % (1 << 30) == 0)
  }

  @Test("tables are aligned to their size, contain zeros and are reused")
  func tablesAreAlignedZeroedAndReused() throws {
    let memory = try PhysicalMemory(.test)
    let small = try memory.allocateTable()
    let large = try memory.allocateTable(sizeShift: 16)
    #expect(large.rawValue % 65536 == 0)
    // The pages that the alignment skipped are allocated next.
    let next = try memory.allocateTable()
    #expect(next.rawValue < large.rawValue)
    #expect(memory.store(7, at: small) == .done)
    memory.freeTable(small)
    #expect(memory.word(at: small) == nil)
    #expect(try memory.allocateTable() == small)
    #expect(memory.word(at: small) == 0)
    #expect(memory.tablePagesInUse == 18)
  }

  @Test("allocateTable() throws ENOMEM at the limit of table pages")
  func tableLimit() throws {
    var limits = PhysicalMemory.Limits.test
    limits.tablePages = 3
    let memory = try PhysicalMemory(limits)
    let first = try memory.allocateTable()
    _ = try memory.allocateTable(sizeShift: 13)
    #expect(throws: Errno.noMemory) { try memory.allocateTable() }
    memory.freeTable(first)
    _ = try memory.allocateTable()
  }

  @Test("the frames of a file are the memory of the client")
  func fileFramesAreTheClientsMemory() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try makeNumberedMemfd(pages: 8)
    let runs = try memory.pin(.file(memfd, offset: 4096), pages: 4)
    let run = try #require(runs.first)
    #expect(runs.count == 1 && run.pages == 4)
    #expect(run.physical.rawValue % (1 << 30) == 4096)
    #expect(memory.word(at: run.page(0)) == 2)
    #expect(memory.store(99, at: run.page(3)) == .done)
    var word: UInt64 = 0
    #expect(pread(memfd.rawValue, &word, 8, 4 * 4096) == 8)
    #expect(word == 99)
    memory.unpin(runs)
    #expect(memory.word(at: run.page(0)) == nil)
    #expect(memory.pinnedFrames == 0)
    #expect(memory.fileMappings == 0)
  }

  @Test("a page of a file has one frame however often it is pinned")
  func onePageHasOneFrame() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try makeNumberedMemfd(pages: 8)
    let a = try memory.pin(.file(memfd, offset: 0), pages: 8)
    let other = try OwnedDescriptor(checking: dup(memfd.rawValue))
    let b = try memory.pin(.file(other, offset: 8192), pages: 2)
    #expect(b == [FrameRun(physical: a[0].page(2), pages: 2)])
    memory.unpin(a)
    #expect(memory.word(at: a[0].page(1)) == nil)
    #expect(memory.word(at: a[0].page(2)) == 3)
    #expect(memory.pinnedFrames == 2)
    memory.unpin(b)
    #expect(memory.word(at: a[0].page(2)) == nil)
  }

  @Test("neighbouring gigabytes of a file are adjacent in physical memory")
  func neighbouringGigabytesAreAdjacent() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try OwnedDescriptor(checking: CLinux_memfd_create("test", 1))
    #expect(ftruncate(memfd.rawValue, 3 << 30) == 0)
    let runs = try memory.pin(.file(memfd, offset: 1 << 30 - 8192), pages: 4)
    #expect(runs.count == 1 && runs[0].pages == 4)
    #expect(memory.store(5, at: runs[0].page(2)) == .done)
    var word: UInt64 = 0
    #expect(pread(memfd.rawValue, &word, 8, 1 << 30) == 8)
    #expect(word == 5)
  }

  @Test("a file that is pinned through a read-only descriptor cannot be written")
  func readOnlyDescriptors() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try makeNumberedMemfd(pages: 4)
    let readOnly = try OwnedDescriptor(
      checking: open("/proc/self/fd/\(memfd.rawValue)", O_RDONLY | O_CLOEXEC))
    let a = try memory.pin(.file(readOnly, offset: 0), pages: 2)
    #expect(memory.word(at: a[0].page(1)) == 2)
    #expect(memory.store(1, at: a[0].page(1)) == .readOnly)
    // A pin through a writable descriptor makes all pinned pages of the file writable.
    let b = try memory.pin(.file(memfd, offset: 12288), pages: 1)
    #expect(memory.store(1, at: a[0].page(1)) == .done)
    memory.unpin(a + b)
    #expect(memory.pinnedFrames == 0)
  }

  @Test("an access to a truncated page of a file that is used in place fails without a signal")
  func truncatedFiles() throws {
    let memory = try PhysicalMemory(.inPlace)
    let memfd = try makeNumberedMemfd(pages: 8)
    let run = try memory.pin(.file(memfd, offset: 0), pages: 8)[0]
    #expect(memory.word(at: run.page(7)) == 8)
    #expect(ftruncate(memfd.rawValue, 4 * 4096) == 0)
    #expect(memory.word(at: run.page(7)) == nil)
    #expect(memory.store(1, at: run.page(5)) == .gone)
    #expect(memory.word(at: run.page(3)) == 4)
    // The old page stays inaccessible when the file grows. A new pin finds the new page.
    #expect(ftruncate(memfd.rawValue, 8 * 4096) == 0)
    #expect(memory.word(at: run.page(7)) == nil)
    let again = try memory.pin(.file(memfd, offset: 7 * 4096), pages: 1)
    #expect(again[0].physical == run.page(7))
    #expect(memory.word(at: run.page(7)) == 0)
    memory.unpin(again)
    memory.unpin(run)
    #expect(memory.fileMappings == 0)
  }

  @Test("file pages beyond the limit of mappings are accessed by pread and pwrite")
  func beyondTheMappingBudgetFilesAreReadAndWritten() throws {
    var limits = PhysicalMemory.Limits.test
    limits.fileMappings = 2
    let memory = try PhysicalMemory(limits)
    let memfd = try makeNumberedMemfd(pages: 16)
    var runs: [FrameRun] = []
    for page in stride(from: 0, to: 16, by: 2) {
      runs += try memory.pin(.file(memfd, offset: UInt64(page * 4096)), pages: 1)
    }
    #expect(memory.fileMappings == 2)
    for (index, run) in runs.enumerated() {
      #expect(memory.word(at: run.physical) == UInt64(2 * index + 1))
      #expect(memory.store(UInt64(index), at: run.physical) == .done)
    }
    #expect(ftruncate(memfd.rawValue, 0) == 0)
    for run in runs {
      #expect(memory.word(at: run.physical) == nil)
      #expect(memory.store(1, at: run.physical) == .gone)
    }
    var status = stat()
    #expect(fstat(memfd.rawValue, &status) == 0 && status.st_size == 0)
    memory.unpin(runs)
    #expect(memory.fileMappings == 0)
  }

  @Test("only files of shared memory can be pinned by descriptor")
  func onlySharedMemoryCanBePinnedByDescriptor() throws {
    let memory = try PhysicalMemory(.test)
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    let (input, output) = (OwnedDescriptor(owning: ends[0]), OwnedDescriptor(owning: ends[1]))
    #expect(throws: Errno.invalidArgument) { try memory.pin(.file(input, offset: 0), pages: 1) }
    let memfd = try makeNumberedMemfd(pages: 1)
    #expect(throws: Errno.invalidArgument) { try memory.pin(.file(memfd, offset: 1), pages: 1) }
    #expect(throws: Errno.invalidArgument) {
      try memory.pin(.file(memfd, offset: UInt64.max - 4095), pages: 2)
    }
    _ = output
  }

  @Test("a pin that fails leaves no frame and no mapping")
  func failedPinsLeaveNothing() throws {
    var limits = PhysicalMemory.Limits.test
    limits.chunksPerOwner = 1
    let memory = try PhysicalMemory(limits)
    let memfd = try OwnedDescriptor(checking: CLinux_memfd_create("test", 1))
    #expect(ftruncate(memfd.rawValue, 3 << 30) == 0)
    #expect(throws: Errno.noMemory) {
      try memory.pin(.file(memfd, offset: 1 << 30 - 4096), pages: 2)
    }
    #expect(memory.pinnedFrames == 0)
    #expect(memory.fileMappings == 0)
  }

  @Test(
    "frames of a process are accessed in its memory while it lives and in the preserved copy after it ends"
  )
  func processFramesAreUsedInPlace() throws {
    let memory = try PhysicalMemory(.test)
    let child = try ForkedProcess()
    let run = try memory.pin(.process(child.space, address: child.address), pages: 2)[0]
    #expect(memory.word(at: run.page(0)) == 0x1111)
    #expect(memory.store(0x3333, at: run.page(1)) == .done)
    #expect(memory.word(at: run.page(1)) == 0x3333)
    #expect(memory.preserve(child.space) == 8192)
    // While the process lives, its memory is used and not the preserved copy.
    #expect(memory.store(0x4444, at: run.page(1)) == .done)
    #expect(memory.word(at: run.page(1)) == 0x4444)
    child.end()
    #expect(memory.word(at: run.page(0)) == 0x1111)
    #expect(memory.word(at: run.page(1)) == 0x3333)
    #expect(memory.store(0x5555, at: run.page(1)) == .done)
    #expect(memory.word(at: run.page(1)) == 0x5555)
    memory.unpin(run)
    #expect(memory.word(at: run.page(1)) == nil)
  }

  @Test("frames that were not preserved are gone when their process has ended")
  func framesOfADeadProcessAreGone() throws {
    var limits = PhysicalMemory.Limits.test
    limits.preservedBytes = 4096
    let memory = try PhysicalMemory(limits)
    let child = try ForkedProcess()
    let run = try memory.pin(.process(child.space, address: child.address), pages: 2)[0]
    #expect(memory.preserve(child.space) == 4096)
    child.end()
    #expect(memory.word(at: run.page(0)) == 0x1111)
    #expect(memory.word(at: run.page(1)) == nil)
    #expect(memory.store(1, at: run.page(1)) == .gone)
  }
}
