// What a walk went through, for the paging-structure cache, and a walk that begins in the middle.

/// The entries of one walk, from the table where it began.
struct WalkSteps {
  private var places = InlineArray<6, UInt64>(repeating: 0)
  private var entries = InlineArray<6, UInt64>(repeating: 0)
  private var count = 0

  @inline(__always)
  fileprivate mutating func note(_ place: PhysicalAddress, _ entry: UInt64) {
    // An entry that changed under the walk is looked at again.
    if count > 0, places[count &- 1] == place.rawValue { count &-= 1 }
    guard count < 6 else { return }
    places[count] = place.rawValue
    entries[count] = entry
    count &+= 1
  }

  /// Every table that the walk came to behind `root`.
  @inline(__always)
  func forEachTable<Format: WalkableFormat>(
    of _: Format.Type, from root: TableRoot, _ body: (PagingStructureCache.Step) -> Void
  ) {
    var grant = root.grant
    for index in 0..<max(0, count - 1) {
      grant &= Format.grant(entries[index], root: root)
      body(
        .init(
          table: Format.table(entries[index], root: root), level: root.topLevel - index - 1,
          grant: grant))
    }
  }
}

/// Tables, and what a walk reads of them.
struct RecordingMemory<Base: EntryMemory>: EntryMemory {
  private var base: Base
  // Not a part of this: Swift 6.3.1's optimizer crashes where it moves such a part out of the loop of a walk.
  private let steps: UnsafeMutablePointer<WalkSteps>

  /// - Parameter steps: valid as long as this is.
  @inline(__always)
  init(_ base: Base, steps: UnsafeMutablePointer<WalkSteps>) {
    self.base = base
    self.steps = steps
  }

  @inline(__always)
  mutating func load(_ address: PhysicalAddress) -> UInt64? {
    let entry = base.load(address)
    if let entry { steps.pointee.note(address, entry) }
    return entry
  }

  @inline(__always)
  mutating func update(
    _ address: PhysicalAddress, from old: UInt64, to new: UInt64
  ) -> EntryUpdate {
    base.update(address, from: old, to: new)
  }
}

extension TableRoot {
  /// The same table, from the middle of a walk on.
  mutating func begin(at step: PagingStructureCache.Step) {
    address = step.table
    topLevel = step.level
    grant = step.grant
  }
}
