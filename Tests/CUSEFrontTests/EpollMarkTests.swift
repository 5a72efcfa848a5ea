// SPDX-License-Identifier: Apache-2.0

import FrontEnd
import Glibc
import Host
import SystemPackage
import Testing

@testable import CUSEFront

@Suite("Marks on open files")
struct EpollMarkTests {
  private let task = HostTask(id: getpid())

  private func pipe() -> (read: OwnedDescriptor, write: OwnedDescriptor) {
    var ends: [Int32] = [-1, -1]
    #expect(Glibc.pipe(&ends) == 0)
    return (OwnedDescriptor(owning: ends[0]), OwnedDescriptor(owning: ends[1]))
  }

  /// Marks the file of `descriptor` through a copy that is closed afterwards, as a client's file is
  /// marked.
  private func mark(_ descriptor: Int32) throws -> EpollMark {
    let set = try #require(EpollMark.emptySet())
    return try UnsharedTable.run { () throws(Errno) -> EpollMark in
      let copy = try UnsharedTable.copy(of: descriptor)
      let own = try UnsharedTable.copy(of: set.descriptor.rawValue)
      guard let mark = EpollMark(copy.rawValue, in: set, copy: EpollSet(own)) else {
        throw .notSupported
      }
      return mark
    }
  }

  @Test func aMarkMatchesEveryDescriptorOfTheFile() throws {
    let (read, write) = pipe()
    let mark = try mark(read.rawValue)
    let copy = OwnedDescriptor(owning: dup(read.rawValue))
    #expect(mark.matches(read.rawValue, of: task))
    #expect(mark.matches(copy.rawValue, of: task))
    #expect(!mark.matches(write.rawValue, of: task))
    #expect(!mark.matches(-1, of: task))
    #expect(!mark.matches(read.rawValue, of: HostTask(id: 0)))
  }

  /// The other file may be of the same node.
  @Test func aMarkDoesNotMatchAnotherFileWithTheSameNumber() throws {
    let (read, write) = pipe()
    let (other, _) = pipe()
    let mark = try mark(read.rawValue)
    #expect(mark.matches(read.rawValue, of: task))
    #expect(dup2(other.rawValue, read.rawValue) == read.rawValue)
    #expect(!mark.matches(read.rawValue, of: task))
    withExtendedLifetime(write) {}
  }

  @Test func aMarkDoesNotKeepTheFileOpen() throws {
    var ends: [Int32] = [-1, -1]
    #expect(Glibc.pipe(&ends) == 0)
    defer { close(ends[1]) }
    let mark = try mark(ends[0])
    close(ends[0])
    // A process that another test has forked may have the file open for a moment.
    var request = pollfd(fd: ends[1], events: 0, revents: 0)
    #expect(poll(&request, 1, 10_000) == 1)
    #expect(request.revents & Int16(POLLERR) != 0)
    withExtendedLifetime(mark) {}
  }
}
