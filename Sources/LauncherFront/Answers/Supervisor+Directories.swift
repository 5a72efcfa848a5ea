// SPDX-License-Identifier: Apache-2.0

// getdents64(2) of the directories of the tree. Where the host has the directory too, its own
// entries are listed with those of the tree, which replace the host's of the same name.
//
// The file position of the program's descriptor says how far the listing is, so that rewinddir(3),
// a fork and duplicates work as for any directory. In a directory of the host, the tree's entries
// come with the first of the host's; their d_off is that of the host's entry before them.

internal import CLinux
internal import Glibc
internal import Host
internal import SystemPackage
internal import UAPI

extension Supervisor {
  func listDirectory(_ call: TrappedCall) throws(Errno) -> Answer {
    let client = client(of: call)
    guard let identity = client.identity(of: call.descriptor(0)),
      let meaning = tree.meaning(of: identity),
      let directory = try? call.task.duplicateDescriptor(call.descriptor(0)),
      try FileIdentity(of: directory) == identity, listener.isWaiting(call.id)
    else { return .native }
    let room = min(Int(call.word(2)), Self.mostBytes)
    let bytes =
      switch meaning {
      case .placeHolder(let entry) where entry.isDirectory:
        try list(entry, directory, room)
      case .directory(let entry): try list(entry, mergedWith: directory, room)
      case .placeHolder: throw Errno.notDirectory
      }
    try client.storeArray(bytes, at: call[1])
    return .value(Int64(bytes.count))
  }

  /// The bytes that one call returns at most.
  private static let mostBytes = 1 << 16

  private func list(
    _ entry: VirtualEntry, _ directory: OwnedDescriptor, _ room: Int
  ) throws(Errno) -> [UInt8] {
    let parent = entry.parent ?? entry
    var records = [
      DirectoryRecord(name: ".", inode: entry.inode, type: .directory),
      DirectoryRecord(name: "..", inode: parent.inode, type: .directory),
    ]
    records += entry.children.map(DirectoryRecord.init(of:))
    let start = Int(lseek(directory.rawValue, 0, SEEK_CUR))
    var bytes: [UInt8] = []
    var next = max(start, 0)
    while next < records.count, bytes.count + records[next].size <= room {
      records[next].append(to: &bytes, nextOffset: Int64(next + 1))
      next += 1
    }
    if next == start, next < records.count { throw .invalidArgument }
    guard lseek(directory.rawValue, off_t(next), SEEK_SET) == next else {
      throw Errno(rawValue: errno)
    }
    return bytes
  }

  private func list(
    _ entry: VirtualEntry, mergedWith directory: OwnedDescriptor, _ room: Int
  ) throws(Errno) -> [UInt8] {
    let own = entry.children.map(DirectoryRecord.init(of:))
    let names = Set(own.map(\.name))
    let isFirst = lseek(directory.rawValue, 0, SEEK_CUR) == 0
    let ownSize = isFirst ? own.reduce(0) { $0 + $1.size } : 0
    while true {
      var buffer = [UInt8](repeating: 0, count: max(room - ownSize, 0))
      let count = buffer.withUnsafeMutableBytes {
        CLinux_getdents64(directory.rawValue, $0.baseAddress, $0.count)
      }
      guard count >= 0 else { throw Errno(rawValue: Int32(-count)) }
      var bytes: [UInt8] = []
      var lastOffset: Int64 = 0
      for record in DirectoryRecord.split(buffer.prefix(count)) {
        lastOffset = record.nextOffset
        if !names.contains(record.name) { bytes += record.bytes }
      }
      if isFirst {
        for record in own { record.append(to: &bytes, nextOffset: lastOffset) }
      }
      if !bytes.isEmpty || count == 0 { return bytes }
    }
  }
}

/// A struct linux_dirent64: inode number, offset of the next record, size of this one, type, name
/// with a 0 at its end.
private struct DirectoryRecord {
  /// DT_…
  enum FileType: UInt8 {
    case characterDevice = 2
    case directory = 4
  }

  let name: String
  let inode: UInt64
  let type: FileType

  private static let nameOffset = 19

  init(name: String, inode: UInt64, type: FileType) {
    self.name = name
    self.inode = inode
    self.type = type
  }

  init(of entry: VirtualEntry) {
    self.init(
      name: entry.name, inode: entry.inode,
      type: entry.isDirectory ? .directory : .characterDevice)
  }

  /// A multiple of 8.
  var size: Int { (Self.nameOffset + name.utf8.count + 1 + 7) & ~7 }

  func append(to bytes: inout [UInt8], nextOffset: Int64) {
    var record = [UInt8](repeating: 0, count: size)
    record.withUnsafeMutableBytes { record in
      record.storeBytes(of: inode, toByteOffset: 0, as: UInt64.self)
      record.storeBytes(of: nextOffset, toByteOffset: 8, as: Int64.self)
      record.storeBytes(of: UInt16(size), toByteOffset: 16, as: UInt16.self)
      record.storeBytes(of: type.rawValue, toByteOffset: 18, as: UInt8.self)
      record[Self.nameOffset...].copyBytes(from: name.utf8)
    }
    bytes += record
  }

  /// The records that the kernel has stored.
  static func split(
    _ bytes: ArraySlice<UInt8>
  ) -> [(name: String, nextOffset: Int64, bytes: ArraySlice<UInt8>)] {
    var records: [(name: String, nextOffset: Int64, bytes: ArraySlice<UInt8>)] = []
    var rest = bytes
    while rest.count > nameOffset {
      let (next, size) = rest.withUnsafeBytes { bytes in
        (
          bytes.loadUnaligned(fromByteOffset: 8, as: Int64.self),
          Int(bytes.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
        )
      }
      guard nameOffset..<(rest.count + 1) ~= size else { break }
      let record = rest.prefix(size)
      let name = String(decoding: record.dropFirst(nameOffset).prefix { $0 != 0 }, as: UTF8.self)
      records.append((name, next, record))
      rest = rest.dropFirst(size)
    }
    return records
  }
}
