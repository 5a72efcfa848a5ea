import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Host

private let own = HostTask(id: getpid())

@Suite struct MemoryAreaTests {
  /// The ioctl and the text say the same of every mapping, where the host has the ioctl.
  @Test func bothWaysAgree() throws {
    let child = try ChildProcess()
    let space = try AddressSpace(of: child.task)
    let lines = try ProcFile.read("/proc/\(child.id)/maps").split(separator: "\n")
    #expect(lines.count > 5)
    for line in lines where !line.hasSuffix("[vsyscall]") {
      let area = try #require(VirtualMemoryArea(mapsLine: Array(line.utf8)))
      for address in [area.start, area.end - 1] {
        #expect(try space.area(containing: address) == area)
        #expect(try space.areaFromText(containing: address) == area)
      }
    }
    #expect(try space.area(containing: 0) == nil)
    #expect(try space.areaFromText(containing: 0) == nil)
  }

  @Test func whatAMappingIs() throws {
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "area", length: 16384))
    let base = try #require(
      mmap(nil, 8192, PROT_READ, MAP_SHARED, file.rawValue, 4096))
    defer { munmap(base, 8192) }
    let space = try AddressSpace(of: own)
    let address = UInt64(UInt(bitPattern: base))
    let area = try #require(try space.area(containing: address + 4096))
    #expect(area.start == address && area.end == address + 8192 && area.fileOffset == 4096)
    #expect(area.access == [.read, .shared])
    #expect(area.file == (try FileStatus(of: file).identity))
    #expect(area.file?.isOnBlockDevice == false)
  }

  @Test func badLines() {
    for line in ["", "00-10", "zz-10 r--p 0 0:0 0", "0-10 r--p 0 0 0", "0-10 r--p 0 0:0 x"] {
      #expect(VirtualMemoryArea(mapsLine: Array(line.utf8)) == nil)
    }
  }

  @Test func aDeadProcessHasNoAreas() throws {
    var child: ChildProcess? = try ChildProcess()
    let space = try AddressSpace(of: child!.task)
    #expect(!space.isGone)
    child = nil
    #expect(space.isGone)
    #expect(throws: Errno.noSuchProcess) { try space.area(containing: 4096) }
    #expect(throws: Errno.noSuchProcess) { try space.areaFromText(containing: 4096) }
    #expect(!space.touch(at: 4096, pages: 1))
  }

  @Test func faultingInChangesNothing() throws {
    let pages = 3_000
    let length = pages * 4096
    let base = try #require(
      mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    defer { munmap(base, length) }
    (base + 2_500 * 4096).storeBytes(of: 5, as: UInt64.self)
    let address = UInt64(UInt(bitPattern: base))
    #expect(own.faultIn(at: address, pages: UInt64(pages), forWriting: true, each: false))
    var resident = [UInt8](repeating: 0, count: pages)
    #expect(mincore(base, length, &resident) == 0)
    #expect(resident.allSatisfy { $0 & 1 == 1 })
    #expect((base + 2_500 * 4096).load(as: UInt64.self) == 5)
    munmap(base + 2_900 * 4096, 4096)
    #expect(!own.faultIn(at: address, pages: UInt64(pages), forWriting: false, each: true))
    #expect(try !AddressSpace(of: own).touch(at: address, pages: UInt64(pages)))
  }
}

@Suite struct MappedFileTests {
  /// Found again through the child's descriptor or its mapping, and it is the same file.
  @Test func aFileOfAnotherProcessIsOpened() throws {
    let memfd = OwnedDescriptor(owning: try MemoryFile.create(name: "mapped", length: 4096))
    let base = try #require(
      mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.rawValue, 0))
    defer { munmap(base, 4096) }
    let space = try AddressSpace(of: own)
    let area = try #require(try space.area(containing: UInt64(UInt(bitPattern: base))))
    let file = try #require(area.file)
    let opened = try #require(MappedFile.open(area, file, of: space))
    #expect(opened.isMemory && opened.isWritable)
    #expect(try FileStatus(of: opened.descriptor).identity == file)
    let other = FileIdentity(device: file.device, inode: file.inode + 1_000_000)
    #expect(MappedFile.open(area, other, of: space) == nil)
  }

  @Test func holesAreAllocated() throws {
    let memfd = OwnedDescriptor(owning: try MemoryFile.create(name: "holes", length: 16384))
    #expect(try FileStatus(of: memfd).hasHoles)
    try MappedFile.allocate(0..<16384, of: memfd)
    let status = try FileStatus(of: memfd)
    #expect(!status.hasHoles && status.size == 16384 && status.isMemory)
  }

  @Test func whoMapsAFileIsFound() throws {
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "a name", length: 5 * 4096))
    let identity = try FileStatus(of: file).identity
    #expect(!identity.isMapped(0..<20480))
    let base = try #require(
      mmap(nil, 8192, PROT_READ, MAP_SHARED, file.rawValue, 4096))
    for (range, isMapped) in [
      (0..<4096, false), (0..<4097, true), (4096..<8192, true), (8192..<12288, true),
      (12287..<12288, true), (12288..<20480, false), (0..<UInt64.max, true),
    ] as [(Range<UInt64>, Bool)] {
      #expect(identity.isMapped(range) == isMapped)
    }
    let other = FileIdentity(device: identity.device + 1, inode: identity.inode)
    #expect(!other.isMapped(0..<20480))
    munmap(base, 4096)
    #expect(identity.isMapped(8192..<12288) && !identity.isMapped(4096..<8192))
    munmap(base + 4096, 4096)
    #expect(!identity.isMapped(0..<20480))
  }

  @Test func whatAnotherProcessMapsIsFound() throws {
    let child = try ChildProcess()
    let program = OwnedDescriptor(owning: open("/proc/\(child.id)/exe", O_RDONLY))
    #expect(try FileStatus(of: program).identity.isMapped(0..<1))
  }

  @Test func devicesAreNoMemory() throws {
    let null = OwnedDescriptor(owning: open("/dev/null", O_RDWR))
    #expect(try !FileStatus(of: null).isMemory)
    #expect(!null.isPathOnly)
    #expect(OwnedDescriptor(owning: open("/dev/null", 0o10000000)).isPathOnly)
  }
}

@Suite struct CredentialTests {
  @Test func anUnprivilegedProcess() throws {
    let child = try ChildProcess.unprivileged(user: 65534, lockablePages: 4)
    #expect(!child.task.isCapable(of: .ipcLock))
    #expect(!child.task.isCapable(of: .sysResource))
    #expect(try child.task.realUserID() == (geteuid() == 0 ? 65534 : getuid()))
    #expect(try child.task.lockedMemoryLimit() == 16384)
    #expect(try child.task.lockedMemoryLimitFromText() == 16384)
    #expect(try child.task.lockedMemory() == 0)
    try child.setLockablePages(2)
    #expect(try child.task.lockedMemoryLimit() == 8192)
  }

  @Test func nobody() throws {
    var child: ChildProcess? = try ChildProcess()
    let task = child!.task
    child = nil
    #expect(!task.isCapable(of: .ipcLock))
    #expect(throws: Errno.noSuchProcess) { try task.realUserID() }
    #expect(throws: Errno.noSuchProcess) { try task.lockedMemoryLimit() }
  }
}

@Suite struct AddressSpaceRegistryTests {
  @Test func oneObjectForOneProcess() throws {
    let registry = AddressSpaceRegistry()
    let child = try ChildProcess()
    let first = try registry.addressSpace(of: child.task)
    #expect(try registry.addressSpace(of: child.task) === first)
    #expect(try registry.addressSpace(of: own) !== first)
    #expect(registry.count == 2)
  }

  @Test func threadsShareIt() async throws {
    let registry = AddressSpaceRegistry()
    let first = try registry.addressSpace(of: own)
    let threads = try ThreadList.threads(of: own.id)
    for thread in threads where thread != own.id {
      guard let space = try? registry.addressSpace(of: HostTask(id: thread)) else { continue }
      #expect(space === first)
    }
    #expect(registry.count == 1)
  }

  @Test func execMakesANewOne() throws {
    let registry = AddressSpaceRegistry()
    let child = try ChildProcess("read line; exec sleep 600", waits: false)
    let before = try registry.addressSpace(of: child.task)
    try child.proceed()
    let after = try registry.addressSpace(of: child.task)
    #expect(before !== after)
    #expect(before.isGone && !after.isGone)
  }

  @Test func entriesOfProcessesGoneAreDropped() throws {
    let registry = AddressSpaceRegistry()
    for _ in 0..<200 {
      let child = try ChildProcess(waits: false)
      _ = try? registry.addressSpace(of: child.task)
    }
    #expect(registry.count <= 64)
  }

  /// Each look at such a process makes a new object, of which nothing stays.
  @Test func aProcessThatHasUnmappedItsStamp() throws {
    let registry = AddressSpaceRegistry()
    // The pointers to its arguments, below the bytes, keep the page apart from the stack in use.
    let child = try ChildProcess(
      """
      exec python3 -c '
      import ctypes, time
      libc = ctypes.CDLL(None)
      libc.getauxval.restype = ctypes.c_ulong
      page = libc.getauxval(25) & ~4095
      libc.munmap(ctypes.c_void_p(page), ctypes.c_size_t(4096))
      time.sleep(600)' $(seq 2000)
      """, waits: false)
    let isPython = { (try? ProcFile.read("/proc/\(child.id)/comm")) == "python3\n" }
    for _ in 0..<5_000 where !isPython() || ExecStamp(of: child.task) != nil { usleep(1_000) }
    try #require(isPython() && ExecStamp(of: child.task) == nil)
    let pidfds = {
      OpenDescriptors.ofThisProcess().filter { $0.contains("[pidfd]") }.count
    }
    for _ in 0..<200 { _ = try registry.addressSpace(of: child.task) }
    #expect(pidfds() < 100)
    #expect(registry.count == 0)
  }
}

private enum OpenDescriptors {
  /// What they lead to.
  static func ofThisProcess() -> [String] {
    (0..<4096).compactMap { number in
      var target = [CChar](repeating: 0, count: 256)
      let count = readlink("/proc/self/fd/\(number)", &target, target.count)
      guard count >= 0 else { return nil }
      return String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
  }
}

private enum ThreadList {
  /// The thread ids of a process.
  static func threads(of process: Int32) throws -> [Int32] {
    guard let directory = opendir("/proc/\(process)/task") else { throw Errno(rawValue: errno) }
    defer { closedir(directory) }
    var ids: [Int32] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if let id = Int32(name) { ids.append(id) }
    }
    return ids
  }
}

@Suite(
  .enabled(
    if: AddressSpaceKeeper { _ in } != nil,
    "this host's userfaultfd(2) is not for faults of the kernel (needs CAP_SYS_PTRACE)"))
struct AddressSpaceKeeperTests {
  /// A byte of each address space that its process has left, by process; nil where it was gone.
  private final class Seen: Sendable {
    let stamps = Mutex<[Int32: UInt64]>([:])
    let bytes = Mutex<[Int32: UInt8?]>([:])

    func see(_ space: AddressSpace) {
      guard let address = stamps.withLock({ $0[space.processID] }) else { return }
      var byte: UInt8 = 0
      let count = withUnsafeMutableBytes(of: &byte) { space.read(at: address, into: $0) }
      bytes.withLock { $0[space.processID] = .some(count == 1 ? byte : nil) }
    }
  }

  @Test func memoryIsThereOnceMoreAfterItsProcess() throws {
    let seen = Seen()
    let keeper = try #require(AddressSpaceKeeper { seen.see($0) })
    let registry = AddressSpaceRegistry(keeper: keeper)
    for _ in 0..<20 {
      var child: ChildProcess? = try ChildProcess()
      let (id, stamp) = (child!.id, try #require(ExecStamp(of: child!.task)))
      seen.stamps.withLock { $0[id] = stamp.address }
      let space = try registry.addressSpace(of: child!.task)
      #expect(keeper.count == 1)
      var first: UInt8 = 0
      #expect(withUnsafeMutableBytes(of: &first) { space.read(at: stamp.address, into: $0) } == 1)
      child = nil
      for _ in 0..<5_000 where keeper.count > 0 || !space.isGone { usleep(1_000) }
      #expect(keeper.count == 0 && space.isGone)
      #expect(seen.bytes.withLock { $0[id] } == .some(first))
    }
  }

  @Test func aProgramThatIsReplaced() throws {
    let seen = Seen()
    let keeper = try #require(AddressSpaceKeeper { seen.see($0) })
    let registry = AddressSpaceRegistry(keeper: keeper)
    let child = try ChildProcess("read line; exec sleep 600", waits: false)
    // posix_spawn(3) returns when the child has left our memory, a moment before it has a stack.
    for _ in 0..<5_000 where ExecStamp(of: child.task) == nil { usleep(1_000) }
    let stamp = try #require(ExecStamp(of: child.task))
    seen.stamps.withLock { $0[child.id] = stamp.address }
    let space = try registry.addressSpace(of: child.task)
    #expect(keeper.count == 1)
    try child.proceed()
    for _ in 0..<5_000 where keeper.count > 0 || !space.isGone { usleep(1_000) }
    #expect(keeper.count == 0 && space.isGone)
    #expect(seen.bytes.withLock { $0[child.id] } != .some(nil))
    #expect(try registry.addressSpace(of: child.task) !== space)
  }

  @Test func notMoreThanTheLimit() throws {
    let keeper = try #require(AddressSpaceKeeper(limit: 2) { _ in })
    let registry = AddressSpaceRegistry(keeper: keeper)
    let children = try (0..<3).map { _ in try ChildProcess() }
    let spaces = try children.map { try registry.addressSpace(of: $0.task) }
    #expect(keeper.count == 2 && spaces.count == 3)
  }
}
