// Memory that clients can mmap through an iommufd, each piece at an offset of its own (iommufd: struct
// iommufd_mmap, ictx->mt_mmap). Under a leaf lock, as drivers add and remove from anywhere.

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

final class MappableRegions: Sendable {
  /// Regions of one context.
  private static let capacity = 4096

  private struct State {
    /// In the order of offsets.
    var regions: [Region] = []
    /// What regions were mapped from.
    var file: FileIdentity?
  }

  private let state = Mutex(State())

  /// Offset 0 is nobody's.
  private static let firstOffset: UInt64 = 4096
  private static let endOfOffsets: UInt64 = 1 << 44

  /// - Parameters:
  ///   - length: whole pages.
  ///   - share: is given the server's own mapping when clients map it first; nil: there is none.
  /// - Returns: the region, at the lowest free offset. iommufd: _iommufd_alloc_mmap()
  /// - Throws: `.noMemory`.
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

  /// A region is mapped whole or not at all. iommufd: iommufd_fops_mmap()
  func region(for request: MappingRequest) throws(Errno) -> Region {
    guard request.isShared else { throw .invalidArgument }
    guard !request.isExecutable else { throw .notPermitted }
    let region = state.withLock { $0.regions.first { $0.offset == request.offset } }
    guard let region, region.length == request.length else { throw .noSuchAddressOrDevice }
    return region
  }

  /// One register of a shared region, as mmap(2) would reach it.
  /// - Throws: `.invalidArgument` where there is none.
  func register(at position: UInt64) throws(Errno) -> (pages: SharedRegisters, offset: Int) {
    let region = state.withLock { state in
      state.regions.first { ($0.offset..<$0.end).contains(position) }
    }
    guard let region, position % 4 == 0 else { throw .invalidArgument }
    return (try region.ownPages(), Int(position - region.offset))
  }

  /// Clients have memory of `file` mapped that is the device's and not theirs: no page of it can be
  /// pinned, as none of a mapping by remap_pfn_range().
  fileprivate func note(_ file: FileIdentity) {
    let isNew = state.withLock { state in
      defer { state.file = file }
      return state.file != file
    }
    if isNew { PinningHost.shared.files.refuse(file) }
  }

  /// The open file is released, and with it whatever regions were mapped from.
  func forgetFile() {
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
      /// What programs map it from.
      var file: FileIdentity?
      /// Our own mapping of it.
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
        regions.note(file)
        if let pages = try fill() {
          try share?(pages)
          state.pages = pages
        }
        state.file = file
      }
    }

    /// Our own mapping; of memory that nobody else can reach, unless a client has mapped the region.
    func ownPages() throws(Errno) -> SharedRegisters {
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

    /// Makes that it cannot be mapped any more.
    /// - Returns: false when some process maps it; nothing has changed then.
    func close() -> Bool {
      state.withLock { state in
        if let file = state.file, file.isMapped(offset..<end, besides: state.pages) {
          return false
        }
        state.isClosed = true
        return true
      }
    }

    func reopen() { state.withLock { $0.isClosed = false } }
  }
}
