// SPDX-License-Identifier: Apache-2.0

import Glibc
import Host
import SystemPackage
import Testing

@testable import FrontEnd

@Suite("Epoll sets")
struct EpollSetTests {
  @Test func anEventIsReportedAsTheTagOfItsDescriptor() throws {
    let set = try EpollSet()
    let (end, other) = try UnixSocket.pair()
    try set.add(end.rawValue, events: 1, tag: 77)  // EPOLLIN
    #expect(set.wait(timeout: 0) == nil)
    #expect(send(other.rawValue, "x", 1, 0) == 1)
    #expect(set.wait(timeout: 0) == 77)
    set.remove(end.rawValue)
    #expect(set.wait(timeout: 0) == nil)
    #expect(throws: Errno.badFileDescriptor) { try set.add(-1, events: 1, tag: 0) }
  }

  @Test func aSubstituteFileIsNeitherMemoryNorAnEventfd() throws {
    let file = try SubstituteFile.open()
    #expect(try !FileStatus(of: file).isMemory)
    #expect(throws: Errno.invalidArgument) { try EventDescriptor(file) }
  }
}

@Suite("Sockets between processes")
struct UnixSocketTests {
  @Test func aSentDescriptorRefersToTheSameFile() throws {
    let (end, other) = try UnixSocket.pair()
    let (sent, peer) = try UnixSocket.pair()
    try UnixSocket.send(sent, over: end)
    let received = try UnixSocket.receiveDescriptor(from: other.rawValue)
    #expect(received.rawValue != sent.rawValue)
    #expect(send(received.rawValue, "x", 1, 0) == 1)
    var byte: UInt8 = 0
    #expect(recv(peer.rawValue, &byte, 1, 0) == 1 && byte == UInt8(ascii: "x"))
  }

  @Test func aClosedSocketIsENOTCONN() throws {
    var (end, other): (OwnedDescriptor?, OwnedDescriptor) = try UnixSocket.pair()
    #expect(end != nil)
    end = nil
    #expect(throws: Errno.socketNotConnected) {
      try UnixSocket.receiveDescriptor(from: other.rawValue)
    }
    _ = other
  }
}
