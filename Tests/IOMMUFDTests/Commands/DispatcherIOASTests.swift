// SPDX-License-Identifier: Apache-2.0

// The commands of an IOAS: the order in which arguments are checked, and what is written back.
// Mappings themselves have their own tests. The expected values were observed on Linux 7.3.4.

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

private let fixed: UInt32 = 1
private let writeable: UInt32 = 2
private let readable: UInt32 = 4

@Suite struct MapCommandTests {
  private func map(
    _ file: ControlFile, flags: UInt32 = readable, ioas: UInt32 = 1, reserved: UInt32 = 0,
    at address: UInt64 = 0x1000_0000, length: UInt64 = 4096, iova: UInt64 = 0
  ) -> Result<UInt64, Errno> {
    var command = iommu_ioas_map(
      size: 40, flags: flags, ioas_id: ioas, __reserved: reserved, user_va: address,
      length: length, iova: iova)
    if let error = file.call(.ioasMap, &command) { return .failure(error) }
    return .success(command.iova)
  }

  private func fileWithIOAS() throws -> ControlFile {
    let file = try ControlFile()
    _ = try file.makeIOAS()
    return file
  }

  @Test("unknown flags of IOMMU_IOAS_MAP are refused")
  func flags() throws {
    let file = try fileWithIOAS()
    defer { file.close() }
    for bit in 3..<32 {
      #expect(map(file, flags: readable | 1 << bit) == .failure(.notSupported), "\(bit)")
    }
    #expect(map(file, reserved: 1) == .failure(.notSupported))
    #expect(map(file, flags: 0) == .failure(.invalidArgument))
    #expect(map(file, flags: fixed) == .failure(.invalidArgument))
    #expect(map(file, flags: fixed | writeable, iova: 0x10_0000) == .success(0x10_0000))
    #expect(map(file, flags: writeable) == .success(0x1000))
  }

  @Test(
    "IOMMU_IOAS_MAP checks flags, numbers, permissions, the object and the mapping in this order")
  func precedence() throws {
    let file = try fileWithIOAS()
    defer { file.close() }
    #expect(map(file, flags: 8, ioas: 9, iova: .max) == .failure(.notSupported))
    #expect(map(file, flags: 0, ioas: 9, iova: .max) == .failure(.overflow))
    #expect(map(file, flags: 0, ioas: 9, length: .max) == .failure(.overflow))
    #expect(map(file, flags: 0, ioas: 9) == .failure(.invalidArgument))
    #expect(map(file, ioas: 9, length: 0) == .failure(.noSuchFileOrDirectory))
    #expect(map(file, length: 0) == .failure(.invalidArgument))
    // The IOVA of the struct is ignored when the server chooses the IOVA.
    #expect(map(file, iova: .max - 1) == .success(0x1000))
  }

  @Test("a mapping stays when its IOVA cannot be written to the client")
  func answerInReadOnlyMemory() throws {
    let file = try fileWithIOAS()
    defer { file.close() }
    let memory = TestMemory()
    memory.store(
      iommu_ioas_map(
        size: 40, flags: fixed | readable, ioas_id: 1, __reserved: 0, user_va: 0x1000_0000,
        length: 4096, iova: 0x8000))
    memory.protect(.read)
    #expect(file.call(.ioasMap, memory.address) == .failure(.badAddress))
    #expect(file.call(.ioasMap, memory.address) == .failure(.fileExists))
    #expect(file.unmap(1, 0x8000, 4096) == .success(4096))
  }

  @Test("IOMMU_IOAS_COPY looks up the source before the destination")
  func copyPrecedence() throws {
    let file = try fileWithIOAS()
    defer { file.close() }
    func copy(
      flags: UInt32 = readable, to destination: UInt32 = 1, from source: UInt32 = 1,
      length: UInt64 = 4096, destinationIOVA: UInt64 = 0, sourceIOVA: UInt64 = 0x8000
    ) -> Errno? {
      var command = iommu_ioas_copy(
        size: 40, flags: flags, dst_ioas_id: destination, src_ioas_id: source, length: length,
        dst_iova: destinationIOVA, src_iova: sourceIOVA)
      return file.call(.ioasCopy, &command)
    }
    for bit in 3..<32 { #expect(copy(flags: readable | 1 << bit) == .notSupported) }
    #expect(copy(flags: 0, length: .max) == .overflow)
    #expect(copy(flags: 0, destinationIOVA: .max) == .overflow)
    #expect(copy(flags: 0, sourceIOVA: .max) == .overflow)
    #expect(copy(flags: fixed) == .invalidArgument)
    #expect(copy(from: 7) == .noSuchFileOrDirectory)
    #expect(copy(length: 0) == .invalidArgument)
    // The source is looked up before the destination: EINVAL is the error of its range.
    #expect(copy(to: 7, length: 0) == .invalidArgument)
    #expect(copy(to: 7) == .noSuchFileOrDirectory, "nothing is mapped")
    #expect(map(file, flags: fixed | readable, iova: 0x8000) == .success(0x8000))
    #expect(copy(to: 7) == .noSuchFileOrDirectory)
    #expect(copy(flags: writeable) == .notPermitted)
    #expect(copy() == nil)
  }

  @Test("IOMMU_IOAS_MAP_FILE accepts each file until the file is pinned")
  func mapFileFlags() throws {
    let file = try fileWithIOAS()
    defer { file.close() }
    func mapFile(
      flags: UInt32 = readable, ioas: UInt32 = 1, descriptor: Int32 = -1, length: UInt64 = 4096,
      iova: UInt64 = 0
    ) -> Errno? {
      var command = iommu_ioas_map_file(
        size: 40, flags: flags, ioas_id: ioas, fd: descriptor, start: 0, length: length, iova: iova)
      return file.call(.ioasMapFile, &command)
    }
    for bit in 3..<32 { #expect(mapFile(flags: readable | 1 << bit) == .notSupported) }
    #expect(mapFile(flags: 0, iova: .max) == .overflow)
    #expect(mapFile(flags: 0) == .invalidArgument)
    #expect(mapFile(ioas: 9) == .noSuchFileOrDirectory)
    #expect(mapFile() == .badFileDescriptor)
    #expect(mapFile(descriptor: file.number) == nil, "every file is accepted until it is pinned")
  }
}

@Suite struct UnmapCommandTests {
  @Test func arguments() throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    #expect(file.unmap(9, .max, .max) == .failure(.noSuchFileOrDirectory))
    #expect(file.unmap(ioas, 1, .max) == .failure(.overflow))
    #expect(file.unmap(ioas, .max, 1) == .failure(.overflow))
    #expect(file.unmap(ioas, .max - 1, 3) == .failure(.overflow))
    #expect(file.unmap(ioas, 0, 0) == .failure(.invalidArgument))
    #expect(file.unmap(ioas, 0, 4096) == .failure(.noSuchFileOrDirectory))
    #expect(file.unmap(ioas, 0, .max) == .success(0), "everything, which is nothing")
  }

  @Test("an unmap that would cut an area removes the areas below it and does not write the length")
  func partialUnmap() throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    for iova in [0x1000, 0x4000] as [UInt64] {
      var command = iommu_ioas_map(
        size: 40, flags: fixed | readable, ioas_id: ioas, __reserved: 0, user_va: 0x1000_0000,
        length: 0x2000, iova: iova)
      #expect(file.call(.ioasMap, &command) == nil)
    }
    var command = iommu_ioas_unmap(size: 24, ioas_id: ioas, iova: 0x1000, length: 0x4000)
    #expect(file.call(.ioasUnmap, &command) == .noSuchFileOrDirectory)
    #expect(command.length == 0x4000)
    #expect(file.unmap(ioas, 0, .max) == .success(0x2000))
  }
}

@Suite struct RangeCommandTests {
  private func allow(
    _ file: ControlFile, _ ioas: UInt32, count: UInt32, at address: UInt64, reserved: UInt32 = 0
  ) -> Errno? {
    var command = iommu_ioas_allow_iovas(
      size: 24, ioas_id: ioas, num_iovas: count, __reserved: reserved, allowed_iovas: address)
    return file.call(.ioasAllowIOVAs, &command)
  }

  @Test("the first element of the allowed ranges that is wrong or unreadable decides the error")
  func allowedRanges() throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    let array = TestMemory()
    func store(_ ranges: [(UInt64, UInt64)]) {
      for (index, range) in ranges.enumerated() {
        array.store(iommu_iova_range(start: range.0, last: range.1), at: index * 16)
      }
    }
    #expect(allow(file, ioas, count: 1, at: 0, reserved: 1) == .notSupported)
    #expect(allow(file, 9, count: 1, at: 0) == .noSuchFileOrDirectory)
    #expect(allow(file, ioas, count: 0, at: 0) == nil)
    #expect(allow(file, ioas, count: 1, at: 0) == .badAddress)
    store([(5, 5)])
    #expect(allow(file, ioas, count: 1, at: array.address) == .invalidArgument)
    store([(9, 20), (30, 40), (20, 25)])
    #expect(allow(file, ioas, count: 2, at: array.address) == nil)
    #expect(allow(file, ioas, count: 3, at: array.address) == .invalidArgument)
    store([(30, 40), (9, 20), (21, 29), (0, 8)])
    #expect(allow(file, ioas, count: 4, at: array.address) == nil)
    // The first element that is wrong or cannot be read decides the error.
    array.store(iommu_iova_range(start: 7, last: 9), at: array.byteCount - 16)
    #expect(allow(file, ioas, count: 2, at: array.end - 16) == .badAddress)
    array.store(iommu_iova_range(start: 9, last: 7), at: array.byteCount - 16)
    #expect(allow(file, ioas, count: .max, at: array.end - 16) == .invalidArgument)
    #expect(allow(file, ioas, count: 1, at: array.end - 8) == .badAddress)
    #expect(file.destroy(ioas) == nil, "failed calls leave it unused")
  }

  @Test("too many allowed ranges are ENOMEM after all other errors")
  func tooManyAllowedRanges() throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    let count = AllowedRanges.capacity + 1
    let array = TestMemory(pages: (count * 16 + 4095) / 4096)
    for index in 0..<count {
      let start = UInt64(count - index) * 16
      array.store(iommu_iova_range(start: start, last: start + 7), at: index * 16)
    }
    #expect(allow(file, ioas, count: UInt32(count), at: array.address) == .noMemory)
    #expect(allow(file, ioas, count: UInt32(count - 1), at: array.address) == nil)
  }

  @Test("IOMMU_IOAS_IOVA_RANGES returns the usable ranges that fit the array and their number")
  func usableRanges() throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    let context = try file.context
    try context.lock.withLock {
      let pageTable = try context.ioas(ObjectID(ioas)).pageTable
      try pageTable.reserve(0x1000...0x1fff, for: nil)
      try pageTable.reserve(0x8000...0x8fff, for: nil)
    }
    let expected: [iommu_iova_range] = [
      .init(start: 0, last: 0xfff), .init(start: 0x2000, last: 0x7fff),
      .init(start: 0x9000, last: .max),
    ]
    func ask(room: UInt32, at address: UInt64) -> (Errno?, iommu_ioas_iova_ranges) {
      var command = iommu_ioas_iova_ranges(
        size: 32, ioas_id: ioas, num_iovas: room, __reserved: 0, allowed_iovas: address,
        out_iova_alignment: 99)
      return (file.call(.ioasIOVARanges, &command), command)
    }
    let array = TestMemory()
    for room in 0...4 {
      array.bytes.initializeMemory(as: UInt8.self, repeating: 0xee)
      let (error, answer) = ask(room: UInt32(room), at: array.address)
      #expect(error == (room < 3 ? .messageTooLong : nil))
      #expect(answer.num_iovas == 3)
      #expect(answer.out_iova_alignment == 1)
      for index in 0..<min(room, 3) {
        let range = array.load(iommu_iova_range.self, at: index * 16)
        #expect(range.start == expected[index].start)
        #expect(range.last == expected[index].last)
      }
      #expect(array.bytes[min(room, 3) * 16] == 0xee, "only the requested elements are written")
    }
    // The address of an array without elements is ignored. A bad address of another array leaves
    // the struct unchanged.
    #expect(ask(room: 0, at: 0).0 == .messageTooLong)
    let (error, answer) = ask(room: 2, at: array.end - 16)
    #expect(error == .badAddress)
    #expect(answer.num_iovas == 2)
    #expect(answer.out_iova_alignment == 99)
    #expect(
      array.load(UInt64.self, at: array.byteCount - 16) == 0, "the element that fits is there")
    try context.lock.withLock {
      try context.ioas(ObjectID(ioas)).pageTable.removeReservations(of: nil)
    }
  }

  @Test("the array is filled before the write of the struct fails")
  func rangesIntoReadOnlyStruct() throws {
    let file = try ControlFile()
    defer { file.close() }
    let ioas = try file.makeIOAS()
    let (array, memory) = (TestMemory(), TestMemory())
    memory.store(
      iommu_ioas_iova_ranges(
        size: 32, ioas_id: ioas, num_iovas: 1, __reserved: 0, allowed_iovas: array.address,
        out_iova_alignment: 0))
    memory.protect(.read)
    #expect(file.call(.ioasIOVARanges, memory.address) == .failure(.badAddress))
    #expect(array.load(UInt64.self, at: 8) == .max)
  }
}

@Suite struct OtherCommandTests {
  @Test("IOMMU_IOAS_NOIOMMU_GET_PA is EOPNOTSUPP")
  func noIOMMU() throws {
    let file = try ControlFile()
    defer { file.close() }
    var command = iommu_ioas_noiommu_get_pa()
    command.size = 40
    for flags: UInt32 in [0, 1] {
      command.flags = flags
      #expect(file.call(.ioasNoIOMMUGetPA, &command) == .notSupported)
    }
  }

  @Test("IOMMU_IOAS_CHANGE_PROCESS refuses a reserved field that is not 0")
  func changeProcess() throws {
    let file = try ControlFile()
    defer { file.close() }
    var command = iommu_ioas_change_process(size: 8, __reserved: 1)
    #expect(file.call(.ioasChangeProcess, &command) == .notSupported)
    command.__reserved = 0
    #expect(file.call(.ioasChangeProcess, &command) == nil)
  }

  @Test("unknown flags of IOMMU_IOAS_ALLOC are refused")
  func allocFlags() throws {
    let file = try ControlFile()
    defer { file.close() }
    for bit in 0..<32 {
      var command = iommu_ioas_alloc(size: 12, flags: 1 << bit, out_ioas_id: 5)
      #expect(file.call(.ioasAlloc, &command) == .notSupported)
      #expect(command.out_ioas_id == 5)
    }
  }
}

extension ControlFile {
  func unmap(_ ioas: UInt32, _ iova: UInt64, _ length: UInt64) -> Result<UInt64, Errno> {
    var command = iommu_ioas_unmap(size: 24, ioas_id: ioas, iova: iova, length: length)
    if let error = call(.ioasUnmap, &command) { return .failure(error) }
    return .success(command.length)
  }
}
