// Tables that get another level when addresses come that they do not span (generic_pt: increase_top()).

internal import SystemPackage

extension RadixMapper {
  /// `table` with one more level above it, in whose first entry it is. Hardware may walk the old table
  /// until it is told of the new one: both translate the same.
  init(above table: Self) throws(Errno) {
    try self.init(
      topLevel: table.topLevel + 1, pageSizes: table.pageSizes, memory: table.memory)
    window.store(Format.makeTable(at: table.root, level: topLevel), at: root)
  }
}
