// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import Host

@Suite struct AddressSpaceRegistryTests {
  @Test func aProcessHasOneObject() throws {
    let registry = AddressSpaceRegistry()
    let child = try ChildProcess()
    let first = try registry.addressSpace(of: child.task)
    #expect(try registry.addressSpace(of: child.task) === first)
    #expect(try registry.addressSpace(of: HostTask(id: getpid())) !== first)
    #expect(registry.count == 2)
  }

  @Test func threadsOfAProcessShareItsObject() async throws {
    let registry = AddressSpaceRegistry()
    let own = getpid()
    let first = try registry.addressSpace(of: HostTask(id: own))
    let threads = try ThreadList.threads(of: own)
    for thread in threads where thread != own {
      guard let space = try? registry.addressSpace(of: HostTask(id: thread)) else { continue }
      #expect(space === first)
    }
    #expect(registry.count == 1)
  }

  @Test func execMakesANewObject() throws {
    let registry = AddressSpaceRegistry()
    let child = try ChildProcess("read line; exec sleep 600", waits: false)
    let before = try registry.addressSpace(of: child.task)
    try child.proceed()
    let after = try registry.addressSpace(of: child.task)
    #expect(before !== after)
    #expect(before.isGone && !after.isGone)
  }

  @Test func entriesOfEndedProcessesAreRemoved() throws {
    let registry = AddressSpaceRegistry()
    for _ in 0..<200 {
      let child = try ChildProcess(waits: false)
      _ = try? registry.addressSpace(of: child.task)
    }
    #expect(registry.count <= 64)
  }

  /// Each look-up makes a new object, and no pidfd of it stays open.
  @Test func aProcessThatUnmappedItsRandomBytesHasNoEntry() throws {
    let registry = AddressSpaceRegistry()
    // The argument vector below the bytes is so large that the page holds no part of the stack in
    // use.
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
    for _ in 0..<5_000 where !isPython() || ExecIdentity(of: child.task) != nil { usleep(1_000) }
    try #require(isPython() && ExecIdentity(of: child.task) == nil)
    let pidfds = {
      OpenDescriptors.ofThisProcess().filter { $0.contains("[pidfd]") }.count
    }
    for _ in 0..<200 { _ = try registry.addressSpace(of: child.task) }
    #expect(pidfds() < 100)
    #expect(registry.count == 0)
  }
}

private enum OpenDescriptors {
  /// The texts of the links under /proc/self/fd.
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
  /// The thread IDs of a process.
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
