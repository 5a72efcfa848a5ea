import CLinux
import Glibc
import Host
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

/// A memfd of `pages` pages; page n begins with the word n + 1.
func makeMemfd(pages: Int) throws -> OwnedDescriptor {
  let memfd = try OwnedDescriptor(checking: CLinux_memfd_create("test", 1))
  #expect(ftruncate(memfd.rawValue, pages * Frame.size) == 0)
  for page in 0..<pages {
    var word = UInt64(page + 1)
    #expect(pwrite(memfd.rawValue, &word, 8, off_t(page * Frame.size)) == 8)
  }
  return memfd
}

extension PhysicalMemory {
  func store(_ value: UInt64, at physical: PhysicalAddress) -> MemoryOutcome {
    withUnsafeBytes(of: value) { write($0, to: physical) }
  }
}

extension FrameRun {
  func page(_ index: Int) -> PhysicalAddress {
    PhysicalAddress(physical.rawValue + UInt64(index * Frame.size))
  }
}

@Suite struct PhysicalMemoryTests {
  /// The host maps a file's huge page only at a multiple of its size.
  @Test func hugePagesCanBeMapped() throws {
    let memory = try PhysicalMemory(.test)
    #expect(UInt(bitPattern: memory.window.base) % (1 << 30) == 0)
  }

  @Test func tablesAreAlignedZeroedAndReused() throws {
    let memory = try PhysicalMemory(.test)
    let small = try memory.allocateTable()
    let large = try memory.allocateTable(sizeShift: 16)
    #expect(large.rawValue % 65536 == 0)
    // What alignment skipped serves the next small ones.
    let next = try memory.allocateTable()
    #expect(next.rawValue < large.rawValue)
    #expect(memory.store(7, at: small) == .done)
    memory.freeTable(small)
    #expect(memory.word(at: small) == nil)
    #expect(try memory.allocateTable() == small)
    #expect(memory.word(at: small) == 0)
    #expect(memory.tablePagesInUse == 18)
  }

  @Test func tableLimit() throws {
    var limits = PhysicalMemory.Limits.test
    limits.tablePages = 3
    let memory = try PhysicalMemory(limits)
    let first = try memory.allocateTable()
    _ = try memory.allocateTable(sizeShift: 13)
    #expect(throws: Errno.noMemory) { try memory.allocateTable() }
    memory.freeTable(first)
    _ = try memory.allocateTable()
  }

  @Test func fileFramesAreTheClientsMemory() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try makeMemfd(pages: 8)
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

  @Test func onePageHasOneFrame() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try makeMemfd(pages: 8)
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

  @Test func neighbouringGigabytesAreAdjacent() throws {
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

  @Test func readOnlyDescriptors() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try makeMemfd(pages: 4)
    let readOnly = try OwnedDescriptor(
      checking: open("/proc/self/fd/\(memfd.rawValue)", O_RDONLY | O_CLOEXEC))
    let a = try memory.pin(.file(readOnly, offset: 0), pages: 2)
    #expect(memory.word(at: a[0].page(1)) == 2)
    #expect(memory.store(1, at: a[0].page(1)) == .readOnly)
    // A writable descriptor makes the file's pages writable, wherever they are pinned.
    let b = try memory.pin(.file(memfd, offset: 12288), pages: 1)
    #expect(memory.store(1, at: a[0].page(1)) == .done)
    memory.unpin(a + b)
    #expect(memory.pinnedFrames == 0)
  }

  @Test func truncatedFilesAreGoneNotFatal() throws {
    let memory = try PhysicalMemory(.test)
    let memfd = try makeMemfd(pages: 8)
    let run = try memory.pin(.file(memfd, offset: 0), pages: 8)[0]
    #expect(memory.word(at: run.page(7)) == 8)
    #expect(ftruncate(memfd.rawValue, 4 * 4096) == 0)
    #expect(memory.word(at: run.page(7)) == nil)
    #expect(memory.store(1, at: run.page(5)) == .gone)
    #expect(memory.word(at: run.page(3)) == 4)
    // Growing the file does not bring the old page back; a new pin asks for the new one.
    #expect(ftruncate(memfd.rawValue, 8 * 4096) == 0)
    #expect(memory.word(at: run.page(7)) == nil)
    let again = try memory.pin(.file(memfd, offset: 7 * 4096), pages: 1)
    #expect(again[0].physical == run.page(7))
    #expect(memory.word(at: run.page(7)) == 0)
    memory.unpin(again)
    memory.unpin(run)
    #expect(memory.fileMappings == 0)
  }

  @Test func beyondTheMappingBudgetFilesAreReadAndWritten() throws {
    var limits = PhysicalMemory.Limits.test
    limits.fileMappings = 2
    let memory = try PhysicalMemory(limits)
    let memfd = try makeMemfd(pages: 16)
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

  @Test func onlySharedMemoryCanBePinnedByDescriptor() throws {
    let memory = try PhysicalMemory(.test)
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    let (input, output) = (OwnedDescriptor(owning: ends[0]), OwnedDescriptor(owning: ends[1]))
    #expect(throws: Errno.invalidArgument) { try memory.pin(.file(input, offset: 0), pages: 1) }
    let memfd = try makeMemfd(pages: 1)
    #expect(throws: Errno.invalidArgument) { try memory.pin(.file(memfd, offset: 1), pages: 1) }
    #expect(throws: Errno.invalidArgument) {
      try memory.pin(.file(memfd, offset: UInt64.max - 4095), pages: 2)
    }
    _ = output
  }

  @Test func failedPinsLeaveNothing() throws {
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

  @Test func processFramesAreUsedInPlace() throws {
    let memory = try PhysicalMemory(.test)
    let child = try ChildProcess()
    let run = try memory.pin(.process(child.space, address: child.address), pages: 2)[0]
    #expect(memory.word(at: run.page(0)) == 0x1111)
    #expect(memory.store(0x3333, at: run.page(1)) == .done)
    #expect(memory.word(at: run.page(1)) == 0x3333)
    #expect(memory.preserve(child.space) == 8192)
    // As long as it lives, the process is the truth.
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

  @Test func framesOfADeadProcessAreGone() throws {
    var limits = PhysicalMemory.Limits.test
    limits.preservedBytes = 4096
    let memory = try PhysicalMemory(limits)
    let child = try ChildProcess()
    let run = try memory.pin(.process(child.space, address: child.address), pages: 2)[0]
    #expect(memory.preserve(child.space) == 4096)
    child.end()
    #expect(memory.word(at: run.page(0)) == 0x1111)
    #expect(memory.word(at: run.page(1)) == nil)
    #expect(memory.store(1, at: run.page(1)) == .gone)
  }
}

/// A forked child with two private pages that begin with 0x1111 and 0x2222.
final class ChildProcess {
  let space: AddressSpace
  let address: UInt64
  private let id: pid_t
  private let pages: UnsafeMutableRawPointer

  init() throws {
    pages = mmap(nil, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    pages.storeBytes(of: 0x1111, as: UInt64.self)
    pages.storeBytes(of: 0x2222, toByteOffset: 4096, as: UInt64.self)
    address = UInt64(UInt(bitPattern: pages))
    id = try Self.spawn()
    space = try AddressSpace(of: HostTask(id: id))
  }

  /// The child only waits to be killed, holding none of the parent's descriptors.
  private static func spawn() throws -> pid_t {
    let fork = dlsym(nil, "fork").map { unsafeBitCast($0, to: (@convention(c) () -> pid_t).self) }
    let call = try #require(fork)
    let parent = getpid()
    let id = call()
    if id == 0 {
      for descriptor in 0..<Int32(256) { close(descriptor) }
      while getppid() == parent { usleep(100_000) }
      _exit(0)
    }
    return id
  }

  func end() {
    kill(id, SIGKILL)
    var status: Int32 = 0
    waitpid(id, &status, 0)
  }

  deinit {
    end()
    munmap(pages, 8192)
  }
}
