// Carriers, last close and readiness, with this process as the program.

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
  func prepareMapping(in file: FileIdentity, fill: () throws(Errno) -> SharedPages?) throws(Errno) {
    _ = try fill()
  }
}

private struct Node: CharacterDevice {
  let name = "iommu"
  func open(by client: any Client) throws(Errno) -> any OpenFile { File() }
}

private let node = DeviceNode(paths: ["/dev/iommu"], major: 511, minor: 0, device: Node())

private func events(_ descriptor: Int32) -> Int32 {
  var event = pollfd(fd: descriptor, events: Int16(POLLIN | POLLOUT), revents: 0)
  return poll(&event, 1, 0) < 0 ? -1 : Int32(event.revents)
}

@Suite struct OpenFilesTests {
  private let files: OpenFiles
  private let task = HostTask(id: getpid())

  init() throws { files = try OpenFiles() }

  @Test func lastCloseReleasesOnce() throws {
    let file = File()
    var carrier: OwnedDescriptor? = try files.adopt(file, of: node)
    let copy = dup(try #require(carrier).rawValue)
    carrier = nil
    files.settle()
    #expect(file.released == 0)
    #expect(files.counts.open == 1)
    close(copy)
    files.settle()
    files.settle()
    #expect(file.released == 1)
    #expect(files.counts.open == 0)
  }

  @Test func aReleaseWaitsForTheCallsOnTheFile() throws {
    let file = File()
    var carrier: OwnedDescriptor? = try files.adopt(file, of: node)
    let number = try #require(carrier).rawValue
    let entry = try #require(try files.begin(number, of: task))
    carrier = nil
    files.settle()
    #expect(file.released == 0)
    files.end(entry)
    #expect(file.released == 1)
  }

  @Test func strangersAreTold() throws {
    let null = try FileDescriptor.open("/dev/null", .readWrite)
    #expect(try files.begin(null.rawValue, of: task) == nil)
    try null.close()
    #expect(throws: Errno.badFileDescriptor) { try files.begin(9999, of: task) }
    #expect(throws: Errno.badFileDescriptor) { try files.begin(-1, of: task) }
  }

  @Test func theCarrierHoldsNothing() throws {
    let carrier = try files.adopt(File(), of: node)
    #expect(pwrite(carrier.rawValue, "x", 1, 0) == -1)
    #expect(ftruncate(carrier.rawValue, 4096) == -1)
    var byte: UInt8 = 0
    #expect(pread(carrier.rawValue, &byte, 1, 0) == 0)
  }

  @Test(arguments: [false, true])
  func aCarrierIsNeitherReadNorWritten(hasRegions: Bool) throws {
    let carrier = try files.adopt(File(hasRegions: hasRegions), of: node)
    var byte: UInt8 = 0
    #expect(read(carrier.rawValue, &byte, 1) == -1 && errno == EINVAL)
    #expect(write(carrier.rawValue, &byte, 1) == -1 && errno == EINVAL)
    #expect(ftruncate(carrier.rawValue, 4096) == -1 && errno == EPERM)
  }

  /// What programs stored there before does not show.
  @Test func aCarrierHoldsRegions() throws {
    let carrier = try files.adopt(File(hasRegions: true), of: node)
    let region = Region()
    let stale = try #require(
      mmap(
        nil, Int(region.length), PROT_READ | PROT_WRITE, MAP_SHARED, carrier.rawValue,
        off_t(region.offset)))
    memset(stale, 7, Int(region.length))
    try StandInFile.fill(carrier, with: region)
    let bytes = UnsafeRawBufferPointer(start: stale, count: Int(region.length))
    #expect(bytes.prefix(3).elementsEqual([1, 2, 3]))
    #expect(bytes.dropFirst(3).allSatisfy { $0 == 0 })
    munmap(stale, Int(region.length))
  }

  /// The server's own mapping hides the deletion of the carrier, but not its last close.
  @Test(arguments: [false, true])
  func theLastCloseOfASharedCarrier(isMapped: Bool) throws {
    let file = File(hasRegions: true)
    var carrier: OwnedDescriptor? = try files.adopt(file, of: node)
    let number = try #require(carrier).rawValue
    let entry = try #require(try files.begin(number, of: task))
    let own = try StandInFile.reopen(try #require(carrier))
    let pages = try SharedPages(of: own, at: 4096, length: 4096)
    try files.share(entry, through: own)
    // A second region.
    let another = try StandInFile.reopen(try #require(carrier))
    let others = try SharedPages(of: another, at: 8192, length: 4096)
    try files.share(entry, through: another)
    files.end(entry)
    let mapping = try #require(
      mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, number, 4096))
    mapping.storeBytes(of: 0x1234, as: UInt32.self)
    #expect(pages.load(0) == 0x1234)
    pages.store(0x5678, at: 4)
    #expect(mapping.load(fromByteOffset: 4, as: UInt32.self) == 0x5678)
    #expect(try StandInIdentity(of: own).isMapped(4096..<8192, besides: pages))
    if isMapped { carrier = nil } else { munmap(mapping, 4096) }
    files.settle()
    #expect(file.released == 0 && files.counts.open == 1)
    if isMapped { munmap(mapping, 4096) } else { carrier = nil }
    files.settle()
    #expect(file.released == 1 && files.counts.open == 0)
    #expect(try !StandInIdentity(of: own).isMapped(4096..<8192, besides: pages))
    #expect(others.load(0) == 0)
  }

  /// A copy that a device keeps would keep the carrier.
  @Test func devicesGetNoCopyOfACarrier() throws {
    let file = File()
    var carrier: OwnedDescriptor? = try files.adopt(file, of: node)
    let identity = try StandInIdentity(of: try #require(carrier))
    #expect(files.isCarrier(identity))
    let standIn = try files.makeStandIn()
    #expect(try !files.isCarrier(StandInIdentity(of: standIn)))
    #expect(try !FileStatus(of: standIn).isMemory)
    carrier = nil
    files.settle()
    #expect(file.released == 1 && !files.isCarrier(identity))
  }

  @Test func pollShowsWhatTheQueueHolds() throws {
    let file = File()
    let (entry, theirs) = try files.adopt(queue: file)
    let queue = try #require(entry.queue)
    #expect(events(theirs.rawValue) == 0)
    file.become(.readable)
    files.deliverWakeups()
    #expect(events(theirs.rawValue) == POLLIN)
    // Read in part: there is still something.
    queue.settle(file, descriptor: theirs.rawValue, of: task)
    #expect(events(theirs.rawValue) == POLLIN)
    file.become([])
    queue.settle(file, descriptor: theirs.rawValue, of: task)
    #expect(events(theirs.rawValue) == 0)
  }

  @Test func aQueueMayBeReadableAndWritableFromTheStart() throws {
    let (_, theirs) = try files.adopt(queue: File([.readable, .writable]))
    #expect(events(theirs.rawValue) == POLLIN | POLLOUT)
  }

  @Test func aQueueThatNobodyGotIsNotReleased() throws {
    let file = File()
    do {
      let (entry, _) = try files.adopt(queue: file)
      files.disown(entry)
    }
    files.settle()
    #expect(file.released == 0)
    #expect(files.counts.opened == 0)
  }

  @Test func theLastCloseOfAQueueReleasesIt() throws {
    let file = File()
    do { _ = try files.adopt(queue: file) }
    files.settle()
    #expect(file.released == 1)
    // A late wake-up of a device that has not heard yet.
    file.become(.readable)
    files.deliverWakeups()
  }

  @Test func nativeAccessOfAQueueNeverWaits() throws {
    let (_, theirs) = try files.adopt(queue: File())
    var byte: UInt8 = 0
    #expect(read(theirs.rawValue, &byte, 1) == -1 && errno == EAGAIN)
    #expect(write(theirs.rawValue, &byte, 1) == -1 && errno == EAGAIN)
  }

  @Test func numbersOfQueues() throws {
    // Another process: in this one, other tests open descriptors too.
    let open = firstQueueDescriptor + 1
    let program = try ChildProcess("exec bash -c 'exec \(open)>/dev/null; exec sleep 600'")
    let numbers = QueueNumbers()
    let first = try numbers.reserve(in: program.task, of: program.id)
    #expect(first == firstQueueDescriptor)
    #expect(try numbers.reserve(in: program.task, of: program.id) == open + 1)
    #expect(try numbers.reserve(in: program.task, of: program.id) == open + 2)
    numbers.unreserve(first, of: program.id)
    #expect(try numbers.reserve(in: program.task, of: program.id) == first)
  }
}
