// SPDX-License-Identifier: Apache-2.0

// The regions that clients can map through one open /dev/iommu, each at an offset of its own
// (iommufd: struct iommufd_mmap, ictx->mt_mmap).
//
// A region holds a copy of its first contents, or registers. Registers are shared: when a client
// maps the region first, the front end maps it into the server too, and `share` hands that mapping
// to the driver. The lock is a leaf, because drivers add and remove regions from any thread.

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class MappableRegions: Sendable {
  /// The number of regions that one context can have.
  private static let capacity = 4096

  private struct State {
    /// In ascending order of offsets.
    var regions: [Region] = []
    /// The file that programs map the regions from. Pages of its mappings are not pinned.
    var file: FileIdentity?
  }

  private let state = Mutex(State())

  /// No region has offset 0.
  private static let firstOffset: UInt64 = 4096
  private static let endOfOffsets: UInt64 = 1 << 44

  /// Adds a region at the lowest free offset. iommufd: _iommufd_alloc_mmap()
  /// - Parameters:
  ///   - length: in bytes, a multiple of the page size.
  ///   - share: gets the server's own mapping of registers. `nil` for a region that is not shared.
  /// - Throws: `.noMemory` when the context has too many regions or no room for `length`.
  func add(
    _ contents: [UInt8], length: UInt64, share: RegionSharing? = nil
  ) throws(Errno) -> Region {
    let region = state.withLock { state -> Region? in
      var (offset, index) = (Self.firstOffset, 0)
      while index < state.regions.count, state.regions[index].offset - offset < length {
        offset = state.regions[index].end
        index += 1
      }
      guard state.regions.count < Self.capacity, length <= Self.endOfOffsets - offset else {
        return nil
      }
      let region = Region(
        at: offset, length: length, contents: contents, share: share, of: self)
      state.regions.insert(region, at: index)
      return region
    }
    guard let region else { throw .noMemory }
    return region
  }

  func remove(at offset: UInt64) {
    state.withLock { $0.regions.removeAll { $0.offset == offset } }
  }

  /// Returns the region that mmap(2) asks for. A region is mapped whole or not at all.
  /// iommufd: iommufd_fops_mmap()
  /// - Throws: `.invalidArgument` for a private mapping, `.notPermitted` for an executable one,
  ///   `.noSuchAddressOrDevice` (ENXIO) when no region has this offset and length.
  func region(for request: MappingRequest) throws(Errno) -> Region {
    guard request.isShared else { throw .invalidArgument }
    guard !request.isExecutable else { throw .notPermitted }
    let region = state.withLock { $0.regions.first { $0.offset == request.offset } }
    guard let region, region.length == request.length else { throw .noSuchAddressOrDevice }
    return region
  }

  /// Returns the mapping of a shared region and the offset in it of the register that mmap(2) would
  /// reach at `position`.
  /// - Throws: `.invalidArgument` when `position` is not aligned to 4 bytes or not in a shared
  ///   region.
  func register(at position: UInt64) throws(Errno) -> (pages: SharedRegisters, offset: Int) {
    let region = state.withLock { state in
      state.regions.first { ($0.offset..<$0.end).contains(position) }
    }
    guard let region, position % 4 == 0 else { throw .invalidArgument }
    return (try region.serverPages(), Int(position - region.offset))
  }

  /// Makes mappings of `file` unfit for pinning. They are memory of a device, as a mapping by
  /// remap_pfn_range() is, which pin_user_pages() refuses.
  fileprivate func refusePinning(of file: FileIdentity) {
    let isNew = state.withLock { state in
      defer { state.file = file }
      return state.file != file
    }
    if isNew { PinningHost.shared.files.refuse(file) }
  }

  /// Ends the effect of the regions on pinning. Called when the open file is released, and with it
  /// the file that the regions were mapped from.
  func permitPinning() {
    let file = state.withLock { state in
      defer { state.file = nil }
      return state.file
    }
    if let file { PinningHost.shared.files.permit(file) }
  }
}

extension MappableRegions {
  final class Region: MappableRegion {
    private struct State {
      /// The file that programs map the region from.
      var file: FileIdentity?
      /// The server's own mapping of the region.
      var pages: SharedRegisters?
      var isClosed = false
    }

    let offset: UInt64
    let length: UInt64
    let contents: [UInt8]
    private let share: RegionSharing?
    private let regions: MappableRegions
    private let state = Mutex(State())

    fileprivate init(
      at offset: UInt64, length: UInt64, contents: [UInt8], share: RegionSharing?,
      of regions: MappableRegions
    ) {
      self.offset = offset
      self.length = length
      self.contents = contents
      self.share = share
      self.regions = regions
    }

    var end: UInt64 { offset + length }
    var isShared: Bool { share != nil }

    func prepareMapping(
      in file: FileIdentity, fill: () throws(Errno) -> SharedRegisters?
    ) throws(Errno) {
      try state.withLock { state throws(Errno) in
        if state.isClosed { throw .noSuchAddressOrDevice }
        if state.file == file { return }
        regions.refusePinning(of: file)
        if let pages = try fill() {
          try share?(pages)
          state.pages = pages
        }
        state.file = file
      }
    }

    /// Returns the server's own mapping of a shared region. Without a client that has mapped the
    /// region, the mapping is of a memfd that no client can reach.
    /// - Throws: `.invalidArgument` for a region that is not shared or is closed.
    func serverPages() throws(Errno) -> SharedRegisters {
      try state.withLock { state throws(Errno) in
        if let pages = state.pages { return pages }
        guard let share, !state.isClosed else { throw Errno.invalidArgument }
        let file = OwnedDescriptor(
          owning: try MemoryFile.create(name: "registers", length: length))
        let pages = try SharedRegisters(of: file, at: 0, length: length)
        try share(pages)
        state.pages = pages
        return pages
      }
    }

    /// Forbids new mappings of the region.
    /// - Returns: `false` when a process has the region mapped; nothing has changed then.
    func close() -> Bool {
      state.withLock { state in
        if let file = state.file, file.isMapped(offset..<end, besides: state.pages) {
          return false
        }
        state.isClosed = true
        return true
      }
    }

    /// Undoes ``close()``.
    func reopen() { state.withLock { $0.isClosed = false } }
  }
}
