// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Host
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

/// Pages that a file loses while they are pinned. The transcript mock_lost shows what the kernel
/// does.
@Suite struct RetainedFilePagesTests {
  private let memory: PhysicalMemory

  init() throws { memory = try PhysicalMemory(.test) }

  private func punch(_ file: OwnedDescriptor, _ pages: Range<Int>) {
    let (offset, length) = (UInt64(pages.lowerBound << 12), UInt64(pages.count << 12))
    #expect(CLinux_punch_hole(file.rawValue, offset, length) == 0)
  }

  @Test("a lost page keeps its contents until its last unpin; the file's page has another frame")
  func lifetimeOfALostPage() throws {
    let memfd = try makeNumberedMemfd(pages: 8)
    let run = try memory.pin(.file(memfd, offset: 0), pages: 8)[0]
    let again = try memory.pin(.file(memfd, offset: 2 << 12), pages: 1)[0]
    #expect(again.physical == run.page(2))
    punch(memfd, 2..<4)
    #expect(memory.word(at: run.page(2)) == 3)
    #expect(memory.store(77, at: run.page(2)) == .done)
    let new = try memory.pin(.file(memfd, offset: 0), pages: 8)
    #expect(new.map(\.pages) == [2, 2, 4])
    #expect(new[0].physical == run.page(0) && new[2].physical == run.page(4))
    #expect(memory.word(at: new[1].page(0)) == 0)
    #expect(memory.pinnedFrames == 10)
    memory.unpin(run)
    #expect(memory.word(at: again.page(0)) == 77)
    memory.unpin(again)
    // The frame is free again, and the page keeps the one that it has.
    let last = try memory.pin(.file(memfd, offset: 2 << 12), pages: 1)[0]
    #expect(last.physical == new[1].physical)
    memory.unpin(new + [last])
    #expect(memory.pinnedFrames == 0 && memory.fileMappings == 0)
    #expect(try memory.pin(.file(memfd, offset: 0), pages: 8) == [run])
    memory.unpin(run)
  }

  @Test("the pages behind the end of a truncated file stay, and are read and written")
  func truncatedFile() throws {
    let memfd = try makeNumberedMemfd(pages: 8)
    let run = try memory.pin(.file(memfd, offset: 0), pages: 8)[0]
    #expect(ftruncate(memfd.rawValue, 3 << 12) == 0)
    for page in 0..<8 { #expect(memory.word(at: run.page(page)) == UInt64(page + 1)) }
    #expect(memory.store(5, at: run.page(7)) == .done)
    #expect(ftruncate(memfd.rawValue, 8 << 12) == 0)
    #expect(memory.word(at: run.page(7)) == 5)
    memory.unpin(run)
  }

  @Test("holes in all sizes, made while other threads access the pages, never show")
  func holesUnderLoad() async throws {
    let pages = 1024
    let memfd = try makeNumberedMemfd(pages: pages)
    let run = try memory.pin(.file(memfd, offset: 0), pages: pages)[0]
    let wrong = Collector<Int>()
    let memory = memory
    await withTaskGroup(of: Void.self) { group in
      for seed in 1...3 {
        group.addTask {
          var generator = SeededGenerator(seed: UInt64(seed))
          for _ in 0..<20_000 {
            let page = Int.random(in: 0..<pages, using: &generator)
            if memory.word(at: run.page(page)) != UInt64(page + 1) { wrong.add(page) }
          }
        }
      }
      group.addTask {
        var generator = SeededGenerator(seed: 9)
        var zero: UInt64 = 0
        for _ in 0..<300 {
          let first = Int.random(in: 0..<pages, using: &generator)
          let count = Int.random(in: 1...min(40, pages - first), using: &generator)
          CLinux_punch_hole(memfd.rawValue, UInt64(first << 12), UInt64(count << 12))
          _ = pwrite(memfd.rawValue, &zero, 8, off_t(first << 12))
        }
        _ = ftruncate(memfd.rawValue, 0)
        _ = ftruncate(memfd.rawValue, off_t(pages << 12))
      }
    }
    #expect(wrong.drain().isEmpty)
    for page in 0..<pages { #expect(memory.word(at: run.page(page)) == UInt64(page + 1)) }
    memory.unpin(run)
    #expect(memory.fileMappings == 0 && memory.pinnedFrames == 0)
  }

  @Test("a file of huge pages loses a huge page")
  func hugePages() throws {
    // Hosts without huge pages are left out. 4 is MFD_HUGETLB.
    let size = 2 << 20
    guard let file = try? OwnedDescriptor(checking: CLinux_memfd_create("huge", 4)),
      ftruncate(file.rawValue, off_t(2 * size)) == 0,
      CLinux_fallocate(file.rawValue, 0, UInt64(2 * size)) == 0
    else { return }
    let run = try memory.pin(.file(file, offset: 0), pages: 1024)[0]
    for page in [0, 511, 512, 1023] {
      #expect(memory.store(UInt64(page + 1), at: run.page(page)) == .done)
    }
    punch(file, 0..<512)
    for page in [0, 511, 512, 1023] { #expect(memory.word(at: run.page(page)) == UInt64(page + 1)) }
    let new = try memory.pin(.file(file, offset: 0), pages: 1)
    #expect(memory.word(at: new[0].page(0)) == 0)
    memory.unpin(new)
    memory.unpin(run)
    #expect(memory.fileMappings == 0)
  }

  @Test("used in place, pages follow the file")
  func inPlace() throws {
    let memory = try PhysicalMemory(.inPlace)
    let memfd = try makeNumberedMemfd(pages: 4)
    let run = try memory.pin(.file(memfd, offset: 0), pages: 4)[0]
    punch(memfd, 1..<2)
    #expect(memory.word(at: run.page(1)) == 0)
    #expect(try memory.pin(.file(memfd, offset: 0), pages: 4) == [run])
    memory.unpin([run, run])
  }

  @Test("a physical memory that ends leaves no thread and no descriptor")
  func endOfTheMemory() throws {
    let before = Self.descriptors
    for _ in 0..<20 {
      let memory = try PhysicalMemory(.test)
      let memfd = try makeNumberedMemfd(pages: 4)
      let run = try memory.pin(.file(memfd, offset: 0), pages: 4)[0]
      punch(memfd, 1..<2)
      #expect(memory.word(at: run.page(1)) == 2)
      memory.unpin(run)
    }
    // Tests that run at the same time open descriptors too.
    for _ in 0..<200 where Self.descriptors > before + 40 { usleep(10_000) }
    #expect(Self.descriptors <= before + 40)
  }

  private static var descriptors: Int {
    (0..<4096).count { fcntl(Int32($0), F_GETFD) >= 0 }
  }
}
