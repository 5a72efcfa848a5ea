// SPDX-License-Identifier: Apache-2.0

// The page that holds the arguments of an agent's system calls: shared memory of the agent and this
// server, so that arguments are stored without a system call.
//
// The client can store other arguments in the page, or map other memory over it. The agent then
// pins other pages of the client, or none, and nothing else is affected. fork(2) does not copy the
// page.

internal import CLinux
internal import Glibc
internal import SystemPackage

// SAFETY: `memory` is written by the thread that makes a call of the agent, one at a time.
final class ArgumentPage: @unchecked Sendable {
  /// In the address space of the agent.
  let address: UInt64
  private let agent: HostTask
  private let memory: UnsafeMutableRawPointer
  private static let size = 4096

  /// Replaces a page of the agent's private memory.
  /// - Parameters:
  ///   - address: of the page, which begins with a name for the memory, ending in 0.
  ///   - agent: makes system calls.
  /// - Throws: the errno of a call; `.noMemory`.
  init(at address: UInt64, of agent: any MemoryAgent) throws(Errno) {
    self.address = address
    self.agent = agent.task
    let flags = UInt64(CLinux_MFD_CLOEXEC | CLinux_MFD_ALLOW_SEALING)
    let number = try agent.call(.memfdCreate, address, flags)
    let file = try agent.task.duplicateDescriptor(Int32(truncatingIfNeeded: number))
    let shared: UInt64 = 0x11  // MAP_SHARED | MAP_FIXED
    guard CLinux_seal_size(file.rawValue, Self.size) == 0,
      let memory = mmap(nil, Self.size, PROT_READ | PROT_WRITE, MAP_SHARED, file.rawValue, 0),
      memory != MAP_FAILED
    else { throw .noMemory }
    self.memory = memory
    _ = try agent.call(.mmap, address, UInt64(Self.size), 3, shared, number, 0)
    _ = try agent.call(.close, number)
    for advice: UInt64 in [10, 16] {  // MADV_DONTFORK, MADV_DONTDUMP
      _ = try agent.call(.madvise, address, UInt64(Self.size), advice)
    }
  }

  deinit { munmap(memory, Self.size) }

  func store(_ bytes: UnsafeRawBufferPointer) { memory.copyMemory(from: bytes) }

  /// Whether the agent finds `bytes`, which were stored, in its memory.
  func holds(_ bytes: UnsafeRawBufferPointer) -> Bool {
    withUnsafeTemporaryAllocation(byteCount: bytes.count, alignment: 8) { found in
      do throws(Errno) { try agent.read(at: address, into: found) } catch { return false }
      return found.elementsEqual(bytes)
    }
  }
}

extension UnsafeMutableRawPointer {
  fileprivate func copyMemory(from bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    copyMemory(from: base, byteCount: bytes.count)
  }
}
