// read, write and mmap.

internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension Supervisor {
  /// RWF_HIPRI, the only flag that a file without read_iter takes.
  private static let highPriority: UInt32 = 1

  /// pread and its relatives, by the offset known to be meant for a device region.
  func transferAtOffset(_ call: TrappedCall) throws(Errno) -> Answer {
    // preadv2(2): -1 is the position.
    if call.operation.hasFlags, call.offset(3) == .max { return try transferOfQueue(call) }
    return try withEntry(for: call) { (entry, client) throws(Errno) in
      // A queue has no position; the carrier says ESPIPE natively.
      guard entry.queue == nil else { return .native }
      return try transfer(call, of: entry, from: call.offset(3), client)
    }
  }

  /// read and its relatives on a high descriptor number. A device's own descriptor may have been
  /// moved there; it is read where it would be below.
  func transferOfQueue(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      if let position = entry.position { return try transfer(call, of: entry, position, client) }
      guard let queue = entry.queue else { return .native }
      defer { queue.settle(entry.file, descriptor: call.descriptor(0), of: call.task) }
      return try transfer(call, of: entry, from: 0, client)
    }
  }

  /// lseek of what a device has made. Where the file has none, its carrier gives the right answer.
  func seek(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      guard entry.file.hasSeek else { return .native }
      let offset =
        call.architecture == .i386
        ? Int64(Int32(bitPattern: call.word(1))) : Int64(bitPattern: call[1])
      return .value(try entry.file.seek(offset, from: Int32(bitPattern: call.word(2))))
    }
  }

  /// fcntl(F_GETFL) of what a device has made, where a carrier cannot have its flags.
  func statusFlags(_ call: TrappedCall) throws(Errno) -> Answer {
    try withEntry(for: call) { (entry, client) throws(Errno) in
      let flags = entry.file.descriptorFlags & DescriptorFlags.status
      guard entry.queue != nil, flags != DescriptorFlags.standard & DescriptorFlags.status else {
        return .native
      }
      return .value(Int64(flags))
    }
  }

  /// read and its relatives on a virtual file, which has a position.
  private func transfer(
    _ call: TrappedCall, of entry: OpenEntry, _ position: FilePosition,
    _ client: LauncherClient
  ) throws(Errno) -> Answer {
    let start = position.offset.withLock { $0 }
    let answer = try transfer(call, of: entry, from: start, client)
    if case .value(let count) = answer { position.offset.withLock { $0 = start &+ UInt64(count) } }
    return answer
  }

  private func transfer(
    _ call: TrappedCall, of entry: OpenEntry, from start: UInt64, _ client: LauncherClient
  ) throws(Errno) -> Answer {
    // fs: vfs_read() and vfs_readv(), in their order.
    guard call.operation.isWrite ? entry.file.hasWrite : entry.file.hasRead else {
      throw .invalidArgument
    }
    let memory = try Transfer(of: call, in: client)
    if memory.pieces.isEmpty { return .value(0) }
    if call.operation.hasFlags, call.word(5) & ~Self.highPriority != 0 { throw .notSupported }
    let done = try memory.run(in: client) { (buffer, done) throws(Errno) in
      let offset = start &+ UInt64(done)
      return try injecting(into: call) { () throws(Errno) in
        call.operation.isWrite
          ? try entry.file.write(from: buffer, at: offset)
          : try entry.file.read(into: buffer, at: offset)
      }
    }
    return .value(Int64(done))
  }

  /// A mapping of a device. Where the device has a region, the kernel maps the carrier.
  ///
  /// Between our answer and the mapping, another thread of the program can make the number mean
  /// another file. That concerns nobody but itself.
  func map(_ call: TrappedCall) throws(Errno) -> Answer {
    guard let request = MappingRequest(call),
      let entry = try? files.begin(call.descriptor(4), of: call.task)
    else { return .native }
    defer { files.end(entry) }
    let region = try entry.file.region(for: request)
    try region.prepareMapping(in: entry.identity) { () throws(Errno) in
      let carrier = try call.task.duplicateDescriptor(call.descriptor(4))
      guard try StandInIdentity(of: carrier) == entry.identity else { throw .badFileDescriptor }
      try StandInFile.fill(carrier, with: region)
      guard region.isShared else { return nil }
      let own = try StandInFile.reopen(carrier)
      try files.share(entry, through: own)
      return try SharedPages(of: own, at: region.offset, length: region.length)
    }
    return .native
  }
}

extension Transfer {
  fileprivate init(of call: TrappedCall, in memory: LauncherClient) throws(Errno) {
    if call.operation.isVectored {
      try self.init(
        vector: call[1], count: call[2], wordSize: call.architecture.wordSize, in: memory)
    } else {
      try self.init(address: call[1], count: call[2])
    }
  }
}

extension MappingRequest {
  /// Nil for what the kernel refuses whatever the file is (mm: ksys_mmap_pgoff(), do_mmap()).
  init?(_ call: TrappedCall) {
    let flags = Int32(bitPattern: call.word(3))
    let type = flags & Self.typeMask
    let offset = call.architecture == .i386 ? UInt64(call.word(5)) << 12 : call[5]
    guard call[1] > 0, call[1] <= Self.mostBytes, offset % 4096 == 0, 1...3 ~= type,
      flags & MAP_HUGETLB == 0
    else { return nil }
    self.init(
      offset: offset, length: (call[1] + 4095) & ~4095, isShared: type != MAP_PRIVATE,
      isExecutable: call.word(2) & UInt32(PROT_EXEC) != 0)
  }

  /// MAP_TYPE
  private static let typeMask: Int32 = 0xf
  /// No address space is larger.
  private static let mostBytes: UInt64 = 1 << 57
}

extension Operation {
  fileprivate var isWrite: Bool {
    switch self {
    case .pwrite, .pwritev, .pwritev2, .write, .writev: true
    default: false
    }
  }

  fileprivate var hasFlags: Bool { self == .preadv2 || self == .pwritev2 }

  fileprivate var isVectored: Bool {
    switch self {
    case .preadv, .preadv2, .pwritev, .pwritev2, .readv, .writev: true
    default: false
    }
  }
}
