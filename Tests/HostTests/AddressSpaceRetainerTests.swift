// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Host

@Suite(
  .enabled(
    if: AddressSpaceRetainer { _ in } != nil,
    "this host does not permit userfaultfd(2) for faults in the kernel (needs CAP_SYS_PTRACE)"))
struct AddressSpaceRetainerTests {
  /// Reads a byte of each address space that its process has left.
  private final class ExitReader: Sendable {
    /// The address to read, by process.
    let addresses = Mutex<[Int32: UInt64]>([:])
    /// The byte read, by process; `nil` when it could not be read.
    let bytes = Mutex<[Int32: UInt8?]>([:])

    func read(_ space: AddressSpace) {
      guard let address = addresses.withLock({ $0[space.processID] }) else { return }
      var byte: UInt8 = 0
      let count = withUnsafeMutableBytes(of: &byte) { space.read(at: address, into: $0) }
      bytes.withLock { $0[space.processID] = .some(count == 1 ? byte : nil) }
    }
  }

  @Test func onExitCanReadTheMemoryOfAnEndedProcess() throws {
    let reader = ExitReader()
    let retainer = try #require(AddressSpaceRetainer { reader.read($0) })
    let registry = AddressSpaceRegistry(retainer: retainer)
    for _ in 0..<20 {
      var child: ChildProcess? = try ChildProcess()
      let (id, identity) = (child!.id, try #require(ExecIdentity(of: child!.task)))
      reader.addresses.withLock { $0[id] = identity.address }
      let space = try registry.addressSpace(of: child!.task)
      #expect(retainer.count == 1)
      var first: UInt8 = 0
      let count = withUnsafeMutableBytes(of: &first) { space.read(at: identity.address, into: $0) }
      #expect(count == 1)
      child = nil
      for _ in 0..<5_000 where retainer.count > 0 || !space.isGone { usleep(1_000) }
      #expect(retainer.count == 0 && space.isGone)
      #expect(reader.bytes.withLock { $0[id] } == .some(first))
    }
  }

  @Test func onExitCanReadTheMemoryFromBeforeExec() throws {
    let reader = ExitReader()
    let retainer = try #require(AddressSpaceRetainer { reader.read($0) })
    let registry = AddressSpaceRegistry(retainer: retainer)
    let child = try ChildProcess("read line; exec sleep 600", waits: false)
    // posix_spawn(3) returns when the child has left this process's memory, before it has a stack.
    for _ in 0..<5_000 where ExecIdentity(of: child.task) == nil { usleep(1_000) }
    let identity = try #require(ExecIdentity(of: child.task))
    reader.addresses.withLock { $0[child.id] = identity.address }
    let space = try registry.addressSpace(of: child.task)
    #expect(retainer.count == 1)
    var first: UInt8 = 0
    let count = withUnsafeMutableBytes(of: &first) { space.read(at: identity.address, into: $0) }
    #expect(count == 1)
    try child.proceed()
    for _ in 0..<5_000 where retainer.count > 0 || !space.isGone { usleep(1_000) }
    #expect(retainer.count == 0 && space.isGone)
    #expect(reader.bytes.withLock { $0[child.id] } == .some(first))
    #expect(try registry.addressSpace(of: child.task) !== space)
  }

  @Test func addressSpacesBeyondTheLimitAreNotRetained() throws {
    let retainer = try #require(AddressSpaceRetainer(limit: 2) { _ in })
    let registry = AddressSpaceRegistry(retainer: retainer)
    let children = try (0..<3).map { _ in try ChildProcess() }
    let spaces = try children.map { try registry.addressSpace(of: $0.task) }
    #expect(retainer.count == 2 && spaces.count == 3)
  }
}
