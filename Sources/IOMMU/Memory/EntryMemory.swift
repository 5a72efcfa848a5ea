// Where a walker finds table entries: the one seam below it.
//
// The hardware's own view is `FrameWindow`, for tables that drivers build in RAM of this server.
// Tables of a client are read through `GuestTableMemory`, because their memory can go away; tables that
// are themselves addressed through another table through `NestedTableMemory`, which translates first and
// remembers what went wrong.

internal import Host
internal import Synchronization

/// How storing an entry ended.
enum EntryUpdate {
  case stored
  /// It is not what was expected any more: software changed it meanwhile.
  case changed
  /// It cannot be stored there.
  case failed
}

protocol TableMemory {
  /// The 64-bit entry at `address`, a multiple of 8, loaded at once. Nil: not readable.
  mutating func load(_ address: PhysicalAddress) -> UInt64?
  /// Stores `new` if the entry still is `old`, at once.
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate
}

/// Tables in a client's memory, at physical addresses.
///
/// Memory that is mapped here is used in place. An entry in another process is read and written by
/// system calls, which no processor's exchange can be: our own walkers exclude each other, but an entry
/// that the process changes between our look and our store keeps the bytes that the flags are in. Only
/// the bytes that differ are stored, so addresses never suffer.
struct GuestTableMemory: TableMemory {
  private let window: FrameWindow
  // SAFETY: whoever walks holds the unit, and the unit the memory; a reference that is counted would
  // cost more than the loads.
  private unowned(unsafe) let memory: PhysicalMemory

  @inline(__always)
  init(_ memory: PhysicalMemory) {
    window = memory.window
    self.memory = memory
  }

  @inline(__always)
  func load(_ address: PhysicalAddress) -> UInt64? {
    let kind = window.kind(of: address)
    guard kind == .direct || kind == .directReadOnly else { return loadElsewhere(address) }
    let entry = window.entry(address).pointee.load(ordering: .relaxed)
    // A page that was lost meanwhile had nothing to say.
    return window.kind(of: address) == kind ? entry : nil
  }

  @inline(__always)
  func update(_ address: PhysicalAddress, from old: UInt64, to new: UInt64) -> EntryUpdate {
    guard window.kind(of: address) == .direct else {
      return updateElsewhere(address, from: old, to: new)
    }
    let exchanged = window.entry(address).pointee.compareExchange(
      expected: old, desired: new, ordering: .relaxed
    ).exchanged
    guard window.kind(of: address) == .direct else { return .failed }
    return exchanged ? .stored : .changed
  }

  @inline(never)
  private func loadElsewhere(_ address: PhysicalAddress) -> UInt64? {
    guard window.kind(of: address).isRemote else { return nil }
    return memory.word(at: address)
  }

  @inline(never)
  private func updateElsewhere(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    guard window.kind(of: address).isRemote else { return .failed }
    return memory.updateRemote(address, from: old, to: new)
  }
}
