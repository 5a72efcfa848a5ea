// SPDX-License-Identifier: Apache-2.0

// read(2), write(2) and related calls, and mmap(2).

internal import FrontEnd
internal import Glibc
internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

extension Supervisor {
  /// Answers pread(2) and related calls, which the filter has trapped because of their offset.
  func transferAtOffset(_ call: TrappedCall) throws(Errno) -> Answer {
    guard let start = TransferCall(call).offset else { return try transferOfQueue(call) }
    guard Int64(bitPattern: start) >= 0 else { return .native }
    return try withOpenFile(for: call) { (entry, client) throws(Errno) in
      // An anonymous inode is a stream: no FMODE_PREAD (ksys_pread64()).
      guard entry.node != nil || entry.position != nil else { throw .illegalSeek }
      return try transfer(call, of: entry, from: start, client)
    }
  }

  /// Answers read(2) and related calls on a descriptor from ``firstQueueDescriptor`` on. The kernel
  /// answers for a device's descriptor that was moved there, as below that number.
  func transferOfQueue(_ call: TrappedCall) throws(Errno) -> Answer {
    try withOpenFile(for: call) { (entry, client) throws(Errno) in
      if let position = entry.position { return try transfer(call, of: entry, position, client) }
      guard let queue = entry.queue else {
        // The stand-in of a device has a position at which these calls fail.
        guard entry.node == nil else { return .native }
        return try transfer(call, of: entry, from: 0, client)
      }
      defer {
        queue.updateReadiness(entry.file, afterReadOf: call.descriptor(0), of: call.task)
      }
      return try transfer(call, of: entry, from: 0, client)
    }
  }

  /// Transfers at the position of a virtual file, and advances the position.
  private func transfer(
    _ call: TrappedCall, of entry: OpenFileEntry, _ position: FilePosition,
    _ client: LauncherClient
  ) throws(Errno) -> Answer {
    let start = position.offset.withLock { $0 }
    let answer = try transfer(call, of: entry, from: start, client)
    if case .value(let count) = answer { position.offset.withLock { $0 = start &+ UInt64(count) } }
    return answer
  }

  private func transfer(
    _ call: TrappedCall, of entry: OpenFileEntry, from start: UInt64, _ client: LauncherClient
  ) throws(Errno) -> Answer {
    // The checks are in the order of vfs_read() and vfs_readv().
    let direction: TransferDirection = call.systemCall.isWrite ? .write : .read
    guard direction == .read ? entry.isReadable : entry.isWritable else {
      throw .badFileDescriptor
    }
    guard direction.isSupported(by: entry.file) else { throw .invalidArgument }
    let memory = try TransferCall(call).transfer(in: client)
    let done = try memory.run(in: client) { (buffer, done) throws(Errno) in
      try withFaultInjection(for: call) { () throws(Errno) in
        try direction.perform(on: entry.file, buffer, at: start &+ UInt64(done))
      }
    }
    return .value(Int64(done))
  }

  /// Prepares the stand-in file for mmap(2) of a device's region. Then the kernel maps the stand-in
  /// file.
  ///
  /// Between the answer and the mapping, another thread of the program can make the descriptor
  /// number refer to another file. Then the kernel maps that file, which affects only the program.
  func map(_ call: TrappedCall) throws(Errno) -> Answer {
    guard let request = MappingRequest(call) else { return .native }
    let client = client(of: call)
    guard let entry = try client.beginCallIfPermitted(on: call.descriptor(4)) else {
      try refuse(placeHolder: call.descriptor(4), client)
      try refuse(mappingOfRing: call.descriptor(4), at: request.offset, call)
      return .native
    }
    defer { files.endCall(on: entry) }
    // do_mmap() checks the access mode before it calls the file.
    let writes = request.isShared && call.word(2) & UInt32(PROT_WRITE) != 0
    guard entry.isReadable, entry.isWritable || !writes else { throw .permissionDenied }
    // Anonymous inodes are on a file system that is mounted without execution (path_noexec()).
    if entry.node == nil, request.isExecutable { throw .notPermitted }
    let region = try entry.file.region(for: request)
    try region.prepareMapping(in: entry.identity) { () throws(Errno) in
      let standIn = try call.task.duplicateDescriptor(call.descriptor(4))
      guard try StandInIdentity(of: standIn) == entry.identity else { throw .badFileDescriptor }
      try StandInFile.fill(standIn, with: region)
      guard region.isShared else { return nil }
      let own = try StandInFile.reopen(standIn)
      try files.watchLock(of: entry, through: own)
      return try SharedRegisters(of: own, at: region.offset, length: region.length)
    }
    return .native
  }
}

extension TransferCall {
  fileprivate init(_ call: TrappedCall) {
    self.init(
      Form(
        position: call.systemCall.position, isVector: call.systemCall.isVectored,
        wordSize: call.architecture.wordSize)
    ) { call[$0] }
  }
}

extension MappingRequest {
  /// - Returns: `nil` for arguments that the kernel rejects for every file (mm: ksys_mmap_pgoff(),
  ///   do_mmap()).
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
  /// The largest size of an address space.
  private static let mostBytes: UInt64 = 1 << 57
}

extension SystemCall {
  fileprivate var isWrite: Bool {
    switch self {
    case .pwrite, .pwritev, .pwritev2, .write, .writev: true
    default: false
    }
  }

  fileprivate var position: TransferCall.Position {
    switch self {
    case .preadv2, .pwritev2: .argumentOrFile
    case .pread, .preadv, .pwrite, .pwritev: .argument
    default: .file
    }
  }

  fileprivate var isVectored: Bool {
    switch self {
    case .preadv, .preadv2, .pwritev, .pwritev2, .readv, .writev: true
    default: false
    }
  }
}
