// SPDX-License-Identifier: Apache-2.0

// Page requests from a device to the client, and their responses.

import CUAPI
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMU
@testable import IOMMUFD

@Suite struct FaultQueueTests {
  private let mock: MockFile
  private let ioas: UInt32
  private let device: (device: UInt32, bound: UInt32, hwpt: UInt32)
  private let queue: (id: UInt32, number: Int32)
  private let hwpt: UInt32

  init() throws {
    mock = try MockFile()
    ioas = try mock.file.makeIOAS()
    device = try mock.makeDevice(ioas).get()
    queue = try mock.makeFaultQueue().get()
    hwpt = try mock.allocate(
      device.bound, on: ioas, flags: IOMMU_HWPT_FAULT_ID_VALID.rawValue, fault: queue.id
    ).get()
  }

  private func close() {
    mock.file.client.close(queue.number)
    mock.close()
  }

  private func record(_ address: UInt32, cookie: UInt32) -> [UInt32] {
    [2, device.bound, 0, 2, 3, 0, address, 0, 0, cookie]
  }

  @Test("a page request is read with a cookie, which answers it once and becomes free")
  func requestsAndAnswers() {
    defer { close() }
    #expect(mock.readiness(queue.number) == .writable)
    #expect(mock.requestPage(device.bound, at: 1) == nil)
    #expect(mock.read(queue.number, 40) == .success([]), "attached to something else")
    #expect(mock.replace(device.device, with: hwpt) == nil)
    for address in 1...3 as ClosedRange<UInt64> {
      #expect(mock.requestPage(device.bound, at: address) == nil)
    }
    #expect(mock.readiness(queue.number) == [.readable, .writable])
    #expect(mock.read(queue.number, 41) == .failure(.illegalSeek))
    #expect(mock.read(queue.number, 0) == .failure(.invalidArgument))
    #expect(mock.read(queue.number, 80) == .success(record(1, cookie: 1) + record(2, cookie: 2)))
    #expect(mock.write(queue.number, [3, 0]) == .failure(.invalidArgument), "not read yet")
    #expect(mock.write(queue.number, [2, 2]) == .failure(.invalidArgument), "no such answer")
    #expect(mock.write(queue.number, [2, 1, 2, 0]) == .success(8), "the second is answered")
    #expect(mock.write(queue.number, [1], count: 4) == .failure(.illegalSeek))
    #expect(mock.read(queue.number, 40) == .success(record(3, cookie: 2)), "the lowest is free")
  }

  @Test(
    "an answer to cookie 0 fails, and makes 0 the next cookie when a request waits for an answer")
  func cookieZero() {
    defer { close() }
    #expect(mock.replace(device.device, with: hwpt) == nil)
    #expect(mock.write(queue.number, [0, 0]) == .failure(.invalidArgument))
    for address in 1...3 as ClosedRange<UInt64> {
      #expect(mock.requestPage(device.bound, at: address) == nil)
    }
    #expect(mock.read(queue.number, 40) == .success(record(1, cookie: 1)))
    #expect(mock.write(queue.number, [0, 0]) == .failure(.invalidArgument))
    #expect(mock.read(queue.number, 80) == .success(record(2, cookie: 0) + record(3, cookie: 2)))
  }

  @Test("a request that cannot be stored stays in the queue and its cookie is free")
  func badMemory() throws {
    defer { close() }
    #expect(mock.replace(device.device, with: hwpt) == nil)
    #expect(mock.requestPage(device.bound, at: 1) == nil)
    let open = try #require(mock.file.client.file(queue.number))
    let buffer = UserBuffer(memory: mock.file.client, address: 16, count: 40)
    #expect(throws: Errno.badAddress) { try open.read(into: buffer, at: 0) }
    #expect(throws: Errno.badAddress) { try open.write(from: buffer, at: 0) }
    #expect(mock.readiness(queue.number) == [.readable, .writable])
    #expect(mock.read(queue.number, 40) == .success(record(1, cookie: 1)))
  }

  @Test("a detach removes the page requests of the attachment, whether they were read or not")
  func detaching() {
    defer { close() }
    #expect(mock.replace(device.device, with: hwpt) == nil)
    #expect(mock.requestPage(device.bound, at: 1) == nil)
    #expect(mock.requestPage(device.bound, at: 2) == nil)
    #expect(mock.read(queue.number, 40) == .success(record(1, cookie: 1)))
    #expect(mock.replace(device.device, with: ioas) == nil)
    #expect(mock.readiness(queue.number) == .writable)
    #expect(mock.write(queue.number, [1, 0]) == .failure(.invalidArgument))
  }

  @Test("a fault queue is busy while its descriptor is open or an HWPT uses it")
  func users() {
    #expect(mock.destroy(queue.id) == .resourceBusy)
    #expect(mock.replace(device.device, with: hwpt) == nil)
    mock.file.client.close(queue.number)
    #expect(mock.destroy(queue.id) == .resourceBusy, "the page table uses it")
    #expect(mock.destroy(device.device) == nil)
    #expect(mock.destroy(hwpt) == nil)
    #expect(mock.destroy(queue.id) == nil)
    mock.close()
  }

  @Test("the descriptor keeps the context and receives requests after the iommufd is closed")
  func outlivesTheFile() throws {
    #expect(mock.replace(device.device, with: hwpt) == nil)
    #expect(mock.requestPage(device.bound, at: 1) == nil)
    mock.close()
    #expect(mock.read(queue.number, 40) == .success(record(1, cookie: 1)))
    #expect(mock.write(queue.number, [1, 0]) == .success(8))
    mock.file.client.close(queue.number)
  }

  @Test("a queue whose ID or descriptor cannot be returned does not exist")
  func failures() throws {
    defer { close() }
    #expect(mock.makeFaultQueue(flags: 1).error == .notSupported)
    mock.file.client.limitFiles(to: 2)
    #expect(mock.makeFaultQueue().error == .tooManyOpenFiles)
    mock.file.client.limitFiles(to: 99)
    let memory = TestMemory()
    memory.store(iommu_fault_alloc(size: 16, flags: 0, out_fault_id: 0, out_fault_fd: 0))
    memory.protect(.read)
    #expect(
      mock.file.call(.faultQueueAlloc, memory.address) == .failure(.badAddress))
    let next = try mock.makeFaultQueue().get()
    #expect(next.id == hwpt + 1)
    mock.file.client.close(next.number)
  }

  @Test("a page request group is read as a whole when its last request has arrived")
  func groups() throws {
    defer { close() }
    #expect(mock.replace(device.device, with: hwpt) == nil)
    let context = try mock.file.context
    let physical = try context.lock.withLock { () throws(Errno) in
      try context.objects.lookUp(ObjectID(device.bound), as: BoundDevice.self).device
    }
    func request(_ address: UInt64, group: UInt32, isLast: Bool) {
      physical.report(
        PageRequest(
          requester: physical.requesterID, pasid: nil, group: group, address: IOVA(address),
          access: .read, isLast: isLast))
    }
    request(1, group: 7, isLast: false)
    request(2, group: 8, isLast: false)
    #expect(mock.readiness(queue.number) == .writable)
    request(3, group: 7, isLast: true)
    #expect(mock.read(queue.number, 40) == .failure(.invalidArgument), "two records")
    let words = try mock.read(queue.number, 120).get()
    #expect(words.count == 20)
    #expect([words[0], words[3], words[6], words[9]] == [0, 7, 1, 1])
    #expect([words[10], words[13], words[16], words[19]] == [2, 7, 3, 1])
  }
}
