// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import Host

@Suite struct HostTaskPagesTests {
  @Test func faultingInMakesPagesResidentAndChangesNoByte() throws {
    let own = HostTask(id: getpid())
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

@Suite struct HostTaskCredentialsTests {
  @Test func anUnprivilegedProcessHasItsOwnUserAndLimitsAndNoCapability() throws {
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

  @Test func aProcessThatHasEndedHasNoCredentials() throws {
    var child: ChildProcess? = try ChildProcess()
    let task = child!.task
    child = nil
    #expect(!task.isCapable(of: .ipcLock))
    #expect(throws: Errno.noSuchProcess) { try task.realUserID() }
    #expect(throws: Errno.noSuchProcess) { try task.lockedMemoryLimit() }
  }
}
