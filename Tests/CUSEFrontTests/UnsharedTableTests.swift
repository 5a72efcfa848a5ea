// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import Testing

@testable import CUSEFront

@Suite("Threads with an unshared file descriptor table")
struct UnsharedTableTests {
  @Test func aThreadSharesNoDescriptorWithThisProcess() throws {
    let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    let isOpen = try UnsharedTable.run { () throws(Errno) in fcntl(descriptor, F_GETFD) >= 0 }
    #expect(!isOpen)
  }

  @Test func idleThreadsAreKeptAndResultsGoToTheirCaller() async throws {
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
