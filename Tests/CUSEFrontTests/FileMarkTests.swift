import Glibc
import Host
import SystemPackage
import Testing

@testable import CUSEFront

@Suite("Recognising files")
struct FileMarkTests {
  private let task = HostTask(id: getpid())

  private func pipe() -> (read: OwnedDescriptor, write: OwnedDescriptor) {
    var ends: [Int32] = [-1, -1]
    #expect(Glibc.pipe(&ends) == 0)
    return (OwnedDescriptor(owning: ends[0]), OwnedDescriptor(owning: ends[1]))
  }

  /// By a copy that is gone afterwards, as a client's descriptor is marked.
  private func mark(_ descriptor: Int32) throws -> FileMark {
    let set = try #require(FileMark.emptySet())
    return try UnsharedTable.run { () throws(Errno) -> FileMark in
      let copy = try UnsharedTable.copy(of: descriptor)
      let own = try UnsharedTable.copy(of: set.rawValue)
      guard let mark = FileMark(copy.rawValue, in: set, copy: own) else { throw .notSupported }
      return mark
    }
  }

  @Test func theFileIsKnownByAnyOfItsDescriptors() throws {
    let (read, write) = pipe()
    let mark = try mark(read.rawValue)
    let copy = OwnedDescriptor(owning: dup(read.rawValue))
    #expect(mark.isOn(read.rawValue, of: task))
    #expect(mark.isOn(copy.rawValue, of: task))
    #expect(!mark.isOn(write.rawValue, of: task))
    #expect(!mark.isOn(-1, of: task))
    #expect(!mark.isOn(read.rawValue, of: HostTask(id: 0)))
  }

  /// Another file under the same number, which may be of the same node.
  @Test func theNumberAloneIsNotKnown() throws {
    let (read, write) = pipe()
    let (other, _) = pipe()
    let mark = try mark(read.rawValue)
    #expect(mark.isOn(read.rawValue, of: task))
    #expect(dup2(other.rawValue, read.rawValue) == read.rawValue)
    #expect(!mark.isOn(read.rawValue, of: task))
    withExtendedLifetime(write) {}
  }

  @Test func aMarkDoesNotKeepTheFileOpen() throws {
    var ends: [Int32] = [-1, -1]
    #expect(Glibc.pipe(&ends) == 0)
    defer { close(ends[1]) }
    let mark = try mark(ends[0])
    close(ends[0])
    // A process that another test has forked may have it for a moment.
    var request = pollfd(fd: ends[1], events: 0, revents: 0)
    #expect(poll(&request, 1, 10_000) == 1)
    #expect(request.revents & Int16(POLLERR) != 0)
    withExtendedLifetime(mark) {}
  }
}

@Suite("Tables of descriptors")
struct OwnTableTests {
  @Test func aThreadHasNoneOfThisProcessesDescriptors() throws {
    let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    let isOpen = try UnsharedTable.run { () throws(Errno) in fcntl(descriptor, F_GETFD) >= 0 }
    #expect(!isOpen)
  }

  /// The same thread serves one after the other; results and errors go to who asked.
  @Test func threadsAreKept() async throws {
    for value in 0..<100 {
      let result = try UnsharedTable.run { () throws(Errno) in (value, pthread_self()) }
      #expect(result.0 == value)
    }
    #expect(throws: Errno.badFileDescriptor) {
      try UnsharedTable.run { () throws(Errno) in throw .badFileDescriptor }
    }
    await withTaskGroup(of: Bool.self) { group in
      for value in 0..<32 {
        group.addTask {
          (try? UnsharedTable.run { () throws(Errno) in
            usleep(1000)
            return value
          }) == value
        }
      }
      for await isRight in group { #expect(isRight) }
    }
    #expect((1...2).contains(UnsharedTable.idleThreads))
  }
}
