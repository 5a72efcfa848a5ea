// SPDX-License-Identifier: Apache-2.0

// Virtual files: fail-nth, /proc/<pid>/status and debugfs.

internal import Glibc
internal import Host
internal import SystemPackage
internal import Testing
internal import UAPI

@testable import LauncherFront

/// A program's memory, which begins at address 0.
private final class Buffer: UserMemory, @unchecked Sendable {
  var bytes: [UInt8]

  init(_ text: String) { bytes = Array(text.utf8) }

  var all: UserBuffer { UserBuffer(memory: self, address: 0, count: bytes.count) }

  func copyIn(from address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) {
    guard Int(address) + buffer.count <= bytes.count else { throw .badAddress }
    buffer.copyBytes(from: bytes[Int(address)...].prefix(buffer.count))
  }

  func copyOut(_ source: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
    guard Int(address) + source.count <= bytes.count else { throw .badAddress }
    bytes.replaceSubrange(Int(address)..<Int(address) + source.count, with: source)
  }
}

@Suite struct FailNthTests {
  private let counters = FailNthCounters()
  private let own = HostTask(id: getpid())

  private func write(_ text: String) -> Result<Int, Errno> {
    let file = FailNthFile(of: own, in: counters)
    return Result { () throws(Errno) in try file.write(from: Buffer(text).all, at: 0) }
  }

  private func read(at offset: UInt64 = 0) throws -> String {
    let (file, buffer) = (FailNthFile(of: own, in: counters), Buffer("................"))
    let count = try file.read(into: buffer.all, at: offset)
    return String(decoding: buffer.bytes.prefix(count), as: UTF8.self)
  }

  @Test(arguments: [
    ("7", 7), ("12\n", 12), ("+3", 3), ("0x1F", 31), ("010", 8), ("4294967295", UInt32.max),
    ("5\0x", 5),
  ])
  func numbersAreParsedAsByKstrtouint(_ text: String, _ value: UInt32) throws {
    #expect(write(text) == .success(text.utf8.count))
    #expect(counters.value(of: own) == value)
    #expect(try read() == "\(value)\n")
  }

  @Test(arguments: [
    ("", Errno.invalidArgument), ("\n", .invalidArgument), ("x", .invalidArgument),
    ("-1", .invalidArgument), ("08", .invalidArgument), ("0x", .invalidArgument),
    ("1 ", .invalidArgument), ("1\n\n", .invalidArgument), ("4294967296", .outOfRange),
  ])
  func badNumbersAreRejected(_ text: String, _ error: Errno) throws {
    #expect(write("9") == .success(1))
    #expect(write(text) == .failure(error))
    #expect(try read() == "9\n")
  }

  @Test func aReadContinuesAtItsOffset() throws {
    _ = write("42")
    #expect(try read(at: 1) == "2\n")
    #expect(try read(at: 3) == "")
    #expect(try read(at: .max) == "")
  }

  @Test func theNthInjectionPointFailsOnceAcrossCalls() throws {
    _ = write("3")
    var results: [Errno?] = []
    for _ in 0..<3 {
      do throws(Errno) {
        try counters.withFaultInjection(for: own) { () throws(Errno) in
          try FaultInjection.step(.invalidArgument)
          try FaultInjection.step(.ioError)
        }
        results.append(nil)
      } catch {
        results.append(error)
      }
    }
    #expect(results == [nil, .invalidArgument, nil])
    #expect(try read() == "0\n")
  }

  @Test func aCallMayDisarmItsOwnCounter() throws {
    _ = write("3")
    try counters.withFaultInjection(for: own) { () throws(Errno) in try counters.set(0, of: own) }
    #expect(counters.value(of: own) == 0)
  }

  @Test func aThreadThatHasEndedHasNoCounter() {
    let ended = HostTask(id: Int32.max)
    #expect(throws: Errno.noSuchProcess) { try counters.set(1, of: ended) }
    #expect(counters.value(of: ended) == 0)
  }
}

@Suite struct VirtualFilesTests {
  private let own = HostTask(id: getpid())

  @Test func pathsUnderProcLeadToFilesOfThreads() throws {
    let id = getpid()
    for path in [
      "/proc/self/fail-nth", "/proc/thread-self/fail-nth", "/proc/\(id)/fail-nth",
      "/proc/self/task/\(id)/fail-nth", "//proc/./\(id)/task/\(id)//fail-nth",
    ] {
      let file = try #require(ThreadFile(path, openedBy: own))
      #expect(file.process == id)
      #expect(file.task == id)
    }
    for path in [
      "/proc/self/task/1/fail-nth", "/proc/self/maps", "/proc/fail-nth",
      "/proc/self/task/fail-nth", "/proc/x/fail-nth", "/tmp/proc/self/fail-nth",
    ] {
      #expect(ThreadFile(path, openedBy: own) == nil)
    }
  }

  @Test func pagesAreAddedToTheFieldsOfAStatusText() {
    let text = "Name:\tx\nVmLck:\t       4 kB\nVmPin:\t       0 kB\nVmHWM:\t     100 kB\n"
    #expect(
      VirtualFiles.adding(["VmLck": 4, "VmPin": 123_456_789], to: text)
        == "Name:\tx\nVmLck:\t       8 kB\nVmPin:\t123456789 kB\nVmHWM:\t     100 kB\n")
  }

  @Test func theDebugfsDirectoryExistsUntilItIsRemoved() throws {
    let directory = try DebugfsDirectory()
    let root = try #require(try directory.open("/sys/kernel/debug/", flags: O_RDONLY | O_DIRECTORY))
    #expect(openat(root.rawValue, "failslab/ignore-gfp-wait", O_WRONLY) >= 0)
    #expect(try directory.open("/sys/kernel/debug/failslab/verbose", flags: O_RDWR) != nil)
    for foreign in ["/sys/kernel/debugger", "/sys/kernel/debug/x", "/sys/kernel/debug/../failslab"]
    {
      #expect(try directory.open(foreign, flags: O_RDONLY) == nil)
    }
    #expect(throws: Errno.noSuchFileOrDirectory) {
      try directory.open("/sys/kernel/debug/failslab/new", flags: O_RDWR | O_CREAT)
    }
    directory.remove()
    #expect(throws: Errno.noSuchFileOrDirectory) {
      try directory.open("/sys/kernel/debug", flags: O_RDONLY)
    }
  }
}
