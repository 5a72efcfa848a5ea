// SPDX-License-Identifier: Apache-2.0

// Stand-in files, last close and readiness, with this process as the program.

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import TestSupport
internal import Testing
internal import UAPI

@testable import LauncherFront

private final class File: OpenFile {
  private struct State {
    var released = 0
    var readiness: Readiness = []
    var wake: (@Sendable () -> Void)?
  }

  private let state: Mutex<State>
  let hasPoll = true
  let hasRegions: Bool

  init(_ readiness: Readiness = [], hasRegions: Bool = false) {
    state = Mutex(State(readiness: readiness))
    self.hasRegions = hasRegions
  }

  var released: Int { state.withLock { $0.released } }
  func readiness() -> Readiness { state.withLock { $0.readiness } }
  func setReadinessObserver(_ wake: (@Sendable () -> Void)?) { state.withLock { $0.wake = wake } }
  func release() { state.withLock { $0.released += 1 } }

  func become(_ readiness: Readiness) {
    let wake = state.withLock { state in
      state.readiness = readiness
      return state.wake
    }
    wake?()
  }
}

private final class Region: MappableRegion {
  let offset = RegionOffset.end - 8192
  let length: UInt64 = 8192
  let contents: [UInt8] = [1, 2, 3]
  func prepareMapping(in file: FileIdentity, fill: () throws(Errno) -> SharedRegisters?)
    throws(Errno)
  {
    _ = try fill()
  }
}

private struct Node: CharacterDevice {
  let name = "iommu"
  func open(by client: any Client) throws(Errno) -> any OpenFile { File() }
}

private let node = VirtualEntry(
  path: "/dev/iommu",
  kind: .node(DeviceNode(paths: ["/dev/iommu"], major: 511, minor: 0, device: Node())), inode: 7,
  parent: nil)

private func events(_ descriptor: Int32) -> Int32 {
  var event = pollfd(fd: descriptor, events: Int16(POLLIN | POLLOUT), revents: 0)
  return poll(&event, 1, 0) < 0 ? -1 : Int32(event.revents)
}

@Suite struct OpenFileTableTests {
  private let files: OpenFileTable
  private let task = HostTask(id: getpid())

  init() throws { files = try OpenFileTable() }

  @Test func theLastCloseReleasesAFileOnce() throws {
    let file = File()
    var standIn: OwnedDescriptor? = try files.add(file, of: node, by: 1)
    let copy = dup(try #require(standIn).rawValue)
    standIn = nil
    files.processPendingEvents()
    #expect(file.released == 0)
    #expect(files.counts.open == 1)
    close(copy)
    files.processPendingEvents()
    files.processPendingEvents()
    #expect(file.released == 1)
    #expect(files.counts.open == 0)
  }

  @Test func aReleaseWaitsForTheCallsOnTheFile() throws {
    let file = File()
    var standIn: OwnedDescriptor? = try files.add(file, of: node, by: 1)
    let number = try #require(standIn).rawValue
    let entry = try #require(try files.beginCall(on: number, of: task))
    standIn = nil
    files.processPendingEvents()
    #expect(file.released == 0)
    files.endCall(on: entry)
    #expect(file.released == 1)
  }

  @Test func filesOfTheHostAreNotInTheTable() throws {
    let null = try FileDescriptor.open("/dev/null", .readWrite)
    #expect(try files.beginCall(on: null.rawValue, of: task) == nil)
    try null.close()
    #expect(throws: Errno.badFileDescriptor) { try files.beginCall(on: 9999, of: task) }
    #expect(throws: Errno.badFileDescriptor) { try files.beginCall(on: -1, of: task) }
  }

  @Test func aStandInWithoutRegionsCannotBeWritten() throws {
    let standIn = try files.add(File(), of: node, by: 1)
    #expect(pwrite(standIn.rawValue, "x", 1, 0) == -1)
    #expect(ftruncate(standIn.rawValue, 4096) == -1)
    var byte: UInt8 = 0
    #expect(pread(standIn.rawValue, &byte, 1, 0) == 0)
  }

  @Test(arguments: [false, true])
  func readAndWriteOfAStandInFail(hasRegions: Bool) throws {
    let standIn = try files.add(File(hasRegions: hasRegions), of: node, by: 1)
    var byte: UInt8 = 0
    #expect(read(standIn.rawValue, &byte, 1) == -1 && errno == EINVAL)
    #expect(write(standIn.rawValue, &byte, 1) == -1 && errno == EINVAL)
    #expect(ftruncate(standIn.rawValue, 4096) == -1 && errno == EPERM)
  }

  /// Bytes that programs stored in the region before are removed.
  @Test func fillingAStandInStoresTheContentsOfARegion() throws {
    let standIn = try files.add(File(hasRegions: true), of: node, by: 1)
    let region = Region()
    let stale = try #require(
      mmap(
        nil, Int(region.length), PROT_READ | PROT_WRITE, MAP_SHARED, standIn.rawValue,
        off_t(region.offset)))
    memset(stale, 7, Int(region.length))
    try StandInFile.fill(standIn, with: region)
    let bytes = UnsafeRawBufferPointer(start: stale, count: Int(region.length))
    #expect(bytes.prefix(3).elementsEqual([1, 2, 3]))
    #expect(bytes.dropFirst(3).allSatisfy { $0 == 0 })
    munmap(stale, Int(region.length))
  }

  /// The server's own mapping prevents the deletion of the stand-in file, but not the end of its
  /// lock.
  @Test(arguments: [false, true])
  func theLastCloseOfASharedStandInReleasesTheFile(isMapped: Bool) throws {
    let file = File(hasRegions: true)
    var standIn: OwnedDescriptor? = try files.add(file, of: node, by: 1)
    let number = try #require(standIn).rawValue
    let entry = try #require(try files.beginCall(on: number, of: task))
    let own = try StandInFile.reopen(try #require(standIn))
    let pages = try SharedRegisters(of: own, at: 4096, length: 4096)
    try files.watchLock(of: entry, through: own)
    // A second region.
    let another = try StandInFile.reopen(try #require(standIn))
    let others = try SharedRegisters(of: another, at: 8192, length: 4096)
    try files.watchLock(of: entry, through: another)
    files.endCall(on: entry)
    let mapping = try #require(
      mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, number, 4096))
    mapping.storeBytes(of: 0x1234, as: UInt32.self)
    #expect(pages.load(0) == 0x1234)
    pages.store(0x5678, at: 4)
    #expect(mapping.load(fromByteOffset: 4, as: UInt32.self) == 0x5678)
    #expect(try StandInIdentity(of: own).isMapped(4096..<8192, besides: pages))
    if isMapped { standIn = nil } else { munmap(mapping, 4096) }
    files.processPendingEvents()
    #expect(file.released == 0 && files.counts.open == 1)
    if isMapped { munmap(mapping, 4096) } else { standIn = nil }
    files.processPendingEvents()
    #expect(file.released == 1 && files.counts.open == 0)
    #expect(try !StandInIdentity(of: own).isMapped(4096..<8192, besides: pages))
    #expect(others.load(0) == 0)
  }

  /// A copy that a device keeps would keep the stand-in file open.
  @Test func aSubstituteIsNoStandInAndNoMemory() throws {
    let file = File()
    var standIn: OwnedDescriptor? = try files.add(file, of: node, by: 1)
    let identity = try StandInIdentity(of: try #require(standIn))
    #expect(files.isStandIn(identity))
    let substitute = try SubstituteFile.open()
    #expect(try !files.isStandIn(StandInIdentity(of: substitute)))
    #expect(try !FileStatus(of: substitute).isMemory)
    standIn = nil
    files.processPendingEvents()
    #expect(file.released == 1 && !files.isStandIn(identity))
  }

  @Test func pollReportsWhetherAQueueHasRecords() throws {
    let file = File()
    let (entry, theirs) = try files.add(madeByDevice: file, by: 1)
    let queue = try #require(entry.queue)
    #expect(events(theirs.rawValue) == 0)
    file.become(.readable)
    files.deliverWakeups()
    #expect(events(theirs.rawValue) == POLLIN)
    // The program has read some of the records.
    queue.updateReadiness(file, afterReadOf: theirs.rawValue, of: task)
    #expect(events(theirs.rawValue) == POLLIN)
    file.become([])
    queue.updateReadiness(file, afterReadOf: theirs.rawValue, of: task)
    #expect(events(theirs.rawValue) == 0)
  }

  @Test func aNewQueueMayBeReadableAndWritable() throws {
    let (_, theirs) = try files.add(madeByDevice: File([.readable, .writable]), by: 1)
    #expect(events(theirs.rawValue) == POLLIN | POLLOUT)
  }

  @Test func aWithdrawnQueueIsNotReleased() throws {
    let file = File()
    do {
      let (entry, _) = try files.add(madeByDevice: file, by: 1)
      files.withdraw(entry)
    }
    files.processPendingEvents()
    #expect(file.released == 0)
    #expect(files.counts.opened == 0)
  }

  @Test func theLastCloseOfAQueueReleasesIt() throws {
    let file = File()
    do { _ = try files.add(madeByDevice: file, by: 1) }
    files.processPendingEvents()
    #expect(file.released == 1)
    // A wake-up after the release has no effect.
    file.become(.readable)
    files.deliverWakeups()
  }

  @Test func readAndWriteOfAQueuesSocketDoNotWait() throws {
    let (_, theirs) = try files.add(madeByDevice: File(), by: 1)
    var byte: UInt8 = 0
    #expect(read(theirs.rawValue, &byte, 1) == -1 && errno == EAGAIN)
    #expect(write(theirs.rawValue, &byte, 1) == -1 && errno == EAGAIN)
  }

  @Test func aQueueGetsTheLowestNumberThatIsNeitherOpenNorReserved() throws {
    // In this process other tests open descriptors at the same time.
    let open = firstQueueDescriptor + 1
    let program = try ChildProcess("exec bash -c 'exec \(open)>/dev/null; exec sleep 600'")
    let numbers = QueueNumbers()
    let first = try numbers.reserve(in: program.task, of: program.id)
    #expect(first == firstQueueDescriptor)
    #expect(try numbers.reserve(in: program.task, of: program.id) == open + 1)
    #expect(try numbers.reserve(in: program.task, of: program.id) == open + 2)
    numbers.cancel(first, of: program.id, isFree: true)
    #expect(try numbers.reserve(in: program.task, of: program.id) == first)
  }

  @Test func theNumberOfAClosedQueueIsGivenAgainAndOthersWhenNoneIsLeft() throws {
    let program = try ChildProcess("ulimit -n \(firstQueueDescriptor + 3); exec sleep 600")
    let numbers = QueueNumbers()
    func reserve() throws -> Int32 { try numbers.reserve(in: program.task, of: program.id) }
    let all = try (0..<3).map { _ in try reserve() }
    for number in all { numbers.cancel(number, of: program.id, isFree: false) }
    numbers.release(all[1], of: program.id)
    #expect(try reserve() == all[1])
    // Nothing is installed at the others, which the search finds again.
    #expect(try reserve() == all[0])
    #expect(try reserve() == all[2])
    #expect(throws: Errno.tooManyOpenFiles) { try reserve() }
  }
}
