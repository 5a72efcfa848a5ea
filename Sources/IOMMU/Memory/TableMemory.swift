// SPDX-License-Identifier: Apache-2.0

// The memory in which a page walk finds table entries. The walker is generic over it, so that one
// algorithm walks three kinds of tables:
//
//   FrameWindow         tables that drivers build in RAM of this server
//   GuestTableMemory    tables of a client, whose memory can become unavailable
//   NestedTableMemory   tables whose addresses a second stage translates first (PageTables/)

internal import Synchronization

/// The result of updating an entry.
enum EntryUpdate {
  case stored
  /// The entry does not have the expected value: software changed it meanwhile.
  case changed
  /// The memory is not available or not writable.
  case failed
}

/// Memory that holds 64-bit table entries.
protocol TableMemory {
  /// Loads the 64-bit entry at `address`, a multiple of 8, with one load.
  /// - Returns: `nil` when the memory cannot be read.
  mutating func load(_ address: PhysicalAddress) -> UInt64?
  /// Stores `new` if the entry still is `old`, atomically.
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate
}

/// Tables in a client's memory, at physical addresses.
///
/// Memory that is mapped in this process is used in place. An entry in another process is read and
/// written by system calls, which are not atomic. Walks exclude each other, but when the process
/// changes an entry between a walk's read and its write, the process's change to the bytes that
/// hold the flags is lost. A walk writes only the bytes that differ, so the address in an entry
/// never changes.
struct GuestTableMemory: TableMemory {
  private let window: FrameWindow
  // SAFETY: the caller of a walk holds the unit, and the unit holds the memory. A counted reference
  // would cost more than the loads of the walk.
  private unowned(unsafe) let memory: PhysicalMemory

  @inline(__always)
  init(_ memory: PhysicalMemory) {
    window = memory.window
    self.memory = memory
  }

  @inline(__always)
  func load(_ address: PhysicalAddress) -> UInt64? {
    let kind = window.kind(of: address)
    guard kind == .mapped || kind == .mappedReadOnly else { return loadRemote(address) }
    let entry = window.entry(address).pointee.load(ordering: .relaxed)
    // When the kind changed, the file was truncated and `entry` is not the client's.
    return window.kind(of: address) == kind ? entry : nil
  }

  @inline(__always)
  func update(_ address: PhysicalAddress, from old: UInt64, to new: UInt64) -> EntryUpdate {
    guard window.kind(of: address) == .mapped else {
      return updateRemote(address, from: old, to: new)
    }
    let exchanged = window.entry(address).pointee.compareExchange(
      expected: old, desired: new, ordering: .relaxed
    ).exchanged
    guard window.kind(of: address) == .mapped else { return .failed }
    return exchanged ? .stored : .changed
  }

  @inline(never)
  private func loadRemote(_ address: PhysicalAddress) -> UInt64? {
    guard window.kind(of: address).isRemote else { return nil }
    return memory.word(at: address)
  }

  @inline(never)
  private func updateRemote(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    guard window.kind(of: address).isRemote else { return .failed }
    return memory.updateRemote(address, from: old, to: new)
  }
}
