// SPDX-License-Identifier: Apache-2.0

// The cache of caller threads, with threads of this process as callers.

internal import CLinux
internal import Foundation
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import Testing

@testable import LauncherFront

/// A thread that runs until `end()`.
private final class Caller: Sendable {
  private let number = Atomic<Int32>(0)
  private let mayEnd = Atomic(false)

  init() {
    startThread(named: "test") { [self] in
      number.store(CLinux_gettid(), ordering: .releasing)
      while !mayEnd.load(ordering: .acquiring) { usleep(100) }
    }
    while number.load(ordering: .acquiring) == 0 { usleep(100) }
  }

  var id: Int32 { number.load(ordering: .acquiring) }

  func end() {
    mayEnd.store(true, ordering: .releasing)
    while access("/proc/self/task/\(id)", F_OK) == 0 { usleep(100) }
  }

  /// A call of the thread with the given ID.
  func call(_ id: UInt64) throws -> TrappedCall {
    let architecture = Architecture.x8664
    let number = try #require(
      Trap.table.first { $0.systemCall == .ioctl }?.number(on: architecture))
    let data = seccomp_data(
      nr: Int32(number), arch: architecture.auditValue, instruction_pointer: 0,
      args: (0, 0, 0, 0, 0, 0))
    return try #require(
      TrappedCall(seccomp_notif(id: id, pid: UInt32(self.id), flags: 0, data: data)))
  }
}

@Suite struct CallerThreadsTests {
  private let threads: CallerThreads
  private let caller = Caller()

  init() throws { threads = try CallerThreads() }

  @Test func aThreadIsFoundForCallsAfterTheOneThatAddedIt() throws {
    defer { caller.end() }
    #expect(threads.thread(of: try caller.call(7)) == nil)
    threads.add(try caller.call(7)) { true }
    #expect(threads.thread(of: try caller.call(7)) == nil)
    // An earlier call, which another thread with the same ID may have made.
    #expect(threads.thread(of: try caller.call(6)) == nil)
    #expect(threads.thread(of: try caller.call(8))?.task.id == caller.id)
  }

  @Test func callIDsMayWrapAround() throws {
    defer { caller.end() }
    threads.add(try caller.call(.max)) { true }
    #expect(threads.thread(of: try caller.call(0)) != nil)
    #expect(threads.thread(of: try caller.call(.max - 1)) == nil)
  }

  @Test func aThreadThatDoesNotWaitAnyMoreIsNotAdded() throws {
    defer { caller.end() }
    threads.add(try caller.call(1)) { false }
    #expect(threads.thread(of: try caller.call(2)) == nil)
  }

  @Test func identitiesThroughThePidfdAreThoseOfThePath() throws {
    defer { caller.end() }
    threads.add(try caller.call(1)) { true }
    let thread = try #require(threads.thread(of: try caller.call(2)))
    let file = try FileDescriptor.open("/dev/null", .readOnly)
    let byPath = try StandInIdentity(of: file.rawValue, in: HostTask(id: caller.id))
    #expect(try thread.identity(of: file.rawValue) == byPath)
    try file.close()
    #expect(throws: Errno.badFileDescriptor) { try thread.identity(of: 9999) }
  }

  @Test func aThreadThatHasEndedHasNoDescriptorsAndIsRemoved() throws {
    threads.add(try caller.call(1)) { true }
    let thread = try #require(threads.thread(of: try caller.call(2)))
    let next = try caller.call(3)
    caller.end()
    #expect(throws: Errno.noSuchProcess) { try thread.identity(of: 0) }
    let threads = threads
    startThread(named: "test") { threads.removeEndedForever() }
    for _ in 0..<10_000 where threads.thread(of: next) != nil { usleep(1000) }
    #expect(threads.thread(of: next) == nil)
  }
}
